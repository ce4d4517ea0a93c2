"""The Admin API's routes: one generic set per kind of resource, made from its descriptor.

The law: nothing here knows a kind; what differs between kinds stands in `RESOURCES`. A handler reads the request, asks
`Resources`, and wraps the answer into APISIX's envelope.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from control_plane.admin import listing
from control_plane.admin.body import read_json
from control_plane.admin.openapi import operation
from control_plane.admin.patch import SubPathError, merge, set_at, split
from control_plane.admin.paths import OWNERS, ObjectId, OwnerId, Paths, checked_id, missing_id, named
from control_plane.admin.resources import Change, Options, Resources, Written
from control_plane.errors import AdminError, BadRequest, answer
from shared.keys import resource_key
from shared.schema.document import DocumentError, check_depth
from shared.schema.errors import excerpt
from shared.schema.resources import RESOURCES, Resource, Verb, json_schema

# A lease longer than this (ten years) is a mistake.
MAX_TTL = 315_360_000

TTL: str | None = Query(None, description="seconds after which the object is deleted")
FORCE: str | None = Query(None, description="`true`: even when it is in use")
DRY_RUN: str | None = Query(None, description="`false`: plugins are not asked whether they take their configurations")

# Parts of paths that `ObjectId` reads.
OF_PATHS = (*OWNERS.values(), "id")

NO_CONFIGURATION = "missing configurations"
NO_CHANGE = "missing new configuration"


def write_options(ttl: str | None = TTL, dry_run: str | None = DRY_RUN) -> Options:
    """Raises BadRequest."""
    return Options(_ttl(ttl), asks_plugins(dry_run))


def asks_plugins(dry_run: str | None = DRY_RUN) -> bool:
    """Raises BadRequest."""
    if dry_run not in (None, "true", "false"):
        raise BadRequest(f"invalid argument dry_run: expected true or false, got {excerpt(dry_run)}")
    return dry_run != "false"


Write = Annotated[Options, Depends(write_options)]
Asked = Annotated[bool, Depends(asks_plugins)]


class ResourceRoutes:
    """The handlers of one kind."""

    __slots__ = ("_resource", "_resources")

    def __init__(self, resource: Resource, resources: Resources) -> None:
        self._resource = resource
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        paths = Paths.of(self._resource.kind)
        self._add(router, paths.all, "GET", self.list_all)
        self._add(router, paths.all, "PUT", self.put_by_body)
        self._add(router, paths.all, "POST", self.post)
        self._add(router, paths.one, "GET", self.get)
        self._add(router, paths.one, "PUT", self.put)
        self._add(router, paths.one, "PATCH", self.patch)
        self._add(router, paths.one, "DELETE", self.delete)
        self._add(router, f"{paths.one}/{{sub_path:path}}", "PATCH", self.patch_at)

    def _add(self, router: APIRouter, path: str, verb: Verb, handler: Callable[..., Awaitable[Response]]) -> None:
        if verb in self._resource.verbs:
            known = [name for name in OF_PATHS if f"{{{name}}}" in path]
            described = operation(self._resource, verb, handler.__name__, known)
            router.add_api_route(path, handler, methods=[verb], tags=[self._resource.kind], **described)

    async def list_all(
        self,
        owner: OwnerId,
        page: str | None = Query(None, description="counted from 1; needs page_size"),
        page_size: str | None = Query(None, description="10 to 500; needs page"),
        name: str | None = Query(None, description="a regular expression found in the name"),
        label: str | None = Query(None, description="a label's key"),
        uri: str | None = Query(None, description="a regular expression found in a uri"),
        filter: str | None = Query(None, description="service_id=ID&upstream_id=ID, URL-encoded; routes, stream routes"),
    ) -> Response:
        query = listing.Query(page, page_size, name, label, uri, filter)
        items = await self._resources.list(self._resource, owner)
        return answer(200, listing.select(self._resource.kind, [self._shown(item) for item in items], query))

    async def get(self, id: ObjectId) -> Response:
        item = await self._resources.get(self._resource, self._checked(id))
        return answer(200, self._shown(item).envelope())

    async def put(self, id: ObjectId, request: Request, options: Write) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        return self._written(await self._resources.put(self._resource, self._checked(id), document, options))

    async def put_by_body(self, request: Request, options: Write) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        given = document.get("id") if isinstance(document, dict) else None
        if not isinstance(given, str | int) or isinstance(given, bool):
            raise missing_id(self._resource)
        return self._written(await self._resources.put(self._resource, self._checked(str(given)), document, options))

    async def post(self, request: Request, options: Write) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        return self._written(await self._resources.post(self._resource, document, options))

    async def patch(self, id: ObjectId, request: Request, options: Write) -> Response:
        change = await read_json(request, NO_CHANGE)
        if not isinstance(change, dict):
            raise BadRequest(f"wrong type: expected object, got {excerpt(change)}")
        return await self._patched(id, lambda previous: merge(previous, change), options)

    async def patch_at(self, id: ObjectId, sub_path: str, request: Request, options: Write) -> Response:
        value = await read_json(request, NO_CHANGE)

        def change(previous: dict[str, Any] | None) -> object:
            try:
                changed = set_at(previous, split(sub_path), value)
                check_depth(changed)
            except SubPathError as error:
                raise BadRequest(f"invalid sub-path: /{sub_path}") from error
            except DocumentError as error:
                raise BadRequest(f"invalid configuration: {error}") from error
            return changed

        return await self._patched(id, change, options)

    async def delete(
        self, id: ObjectId, force: str | None = Query(None, description="`true`: even when it is in use")
    ) -> Response:
        object_id = self._checked(id)
        revision = await self._resources.delete(self._resource, object_id, force=force == "true")
        key = resource_key(self._resource.kind, object_id)
        return answer(200, {"deleted": "1", "key": key}, revision)

    async def _patched(self, id: ObjectId, change: Change, options: Options) -> Response:
        return self._written(await self._resources.patch(self._resource, self._checked(id), change, options))

    def _written(self, written: Written) -> Response:
        value = self._public(written.value)
        return answer(201 if written.created else 200, {"key": written.key, "value": value}, written.revision)

    def _shown(self, item: listing.Item) -> listing.Item:
        return replace(item, value=self._public(item.value)) if self._resource.secrets else item

    def _public(self, value: object) -> object:
        """Without the properties that nobody may read back; what is no object of ours may be all secret."""
        secrets = self._resource.secrets
        if not secrets:
            return value
        if not isinstance(value, dict):
            return None
        for path in secrets:
            value = _without(value, path.split("."))
        return value

    def _checked(self, object_id: str) -> str:
        return checked_id(self._resource, object_id)


def _without(document: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """A copy without the property; what is of another shape on the way to it is left out whole."""
    name, *rest = path
    if name not in document:
        return document
    inner = document[name]
    others = {key: item for key, item in document.items() if key != name}
    return {**document, name: _without(inner, rest)} if rest and isinstance(inner, dict) else others


def _ttl(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise BadRequest("invalid argument ttl: should be a number")
    if not 1 <= int(text) <= MAX_TTL:
        raise BadRequest(f"invalid argument ttl: expected 1 to {MAX_TTL} seconds, got {text}")
    return int(text)


async def schema(kind: str) -> Response:
    """The JSON Schema of a kind, by its singular or plural name."""
    resource = named(kind)
    if resource is None:
        raise BadRequest(f"not found schema: {kind}")
    return answer(200, json_schema(resource.kind))


async def unmatched(request: Request, path: str) -> Response:
    """What no route took: why it is not there."""
    name, _, rest = path.partition("/")
    resource = next((resource for resource in RESOURCES.values() if resource.kind == name), None)
    if resource is None:
        raise AdminError(404, {"error_msg": f"Unsupported resource type: {name}"})
    if request.method in ("POST", "PATCH") and request.method not in resource.verbs:
        raise AdminError(405, {"error_msg": f"not supported `{request.method}` method for {resource.singular}"})
    if request.method in ("PATCH", "DELETE") and not rest.strip("/"):
        raise missing_id(resource)
    raise AdminError(404, {"error_msg": "not found"})
