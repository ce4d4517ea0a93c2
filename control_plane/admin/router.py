"""The Admin API's routes: one generic set per kind of resource, made from its descriptor.

The law: nothing here knows a kind; what differs between kinds stands in `RESOURCES`. A handler reads the request, asks
`Resources`, and wraps the answer into APISIX's envelope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from control_plane.admin import listing
from control_plane.admin.answers import public, simulated, tagged, written
from control_plane.admin.body import read_json
from control_plane.admin.openapi import operation
from control_plane.admin.operations import Change, Options
from control_plane.admin.options import Deletes, Writes
from control_plane.admin.patch import merging, setting
from control_plane.admin.paths import OWNERS, ObjectId, OwnerId, Paths, checked_id, missing_id
from control_plane.admin.resources import Resources
from control_plane.admin.transactions import blocked
from control_plane.errors import AdminError, answer
from shared.keys import IN_TWO_PARTS, parse_resource_key
from shared.schema.resources import RESOURCES, Resource, Verb

FORCE: str | None = Query(None, description="`true`: even when it is in use")

# Parts of paths that `ObjectId` reads.
OF_PATHS = (*OWNERS.values(), "id")

NO_CONFIGURATION = "missing configurations"
NO_CHANGE = "missing new configuration"


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
        return tagged(answer(200, self._shown(item).envelope()), item.modified)

    async def put(self, id: ObjectId, request: Request, options: Writes) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        return written(await self._resources.put(self._resource, self._checked(id), document, options), options)

    async def put_by_body(self, request: Request, options: Writes) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        given = document.get(self._resource.id_property) if isinstance(document, dict) else None
        if not isinstance(given, str | int) or isinstance(given, bool):
            raise missing_id(self._resource)
        return written(await self._resources.put(self._resource, self._checked(str(given)), document, options), options)

    async def post(self, request: Request, options: Writes) -> Response:
        document = await read_json(request, NO_CONFIGURATION)
        return written(await self._resources.post(self._resource, document, options), options)

    async def patch(self, id: ObjectId, request: Request, options: Writes) -> Response:
        change = await read_json(request, NO_CHANGE)
        return await self._patched(id, merging(change), options)

    async def patch_at(self, id: ObjectId, sub_path: str, request: Request, options: Writes) -> Response:
        value = await read_json(request, NO_CHANGE)

        return await self._patched(id, setting(sub_path, value), options)

    async def delete(self, id: ObjectId, options: Deletes, force: str | None = FORCE) -> Response:
        object_id = self._checked(id)
        outcome = await self._resources.delete(self._resource, object_id, force=force == "true", options=options)
        if options.simulate:
            return simulated((outcome,))
        return answer(200, {"deleted": "1", "key": outcome.key}, outcome.revision)

    async def _patched(self, id: ObjectId, change: Change, options: Options) -> Response:
        return written(await self._resources.patch(self._resource, self._checked(id), change, options), options)

    def _shown(self, item: listing.Item) -> listing.Item:
        key = parse_resource_key(item.key)
        return item if key is None else replace(item, value=public(self._resource, key.id, item.value))

    def _checked(self, object_id: str) -> str:
        return checked_id(self._resource, object_id)


async def unmatched(request: Request, path: str) -> Response:
    """What no route took: why it is not there."""
    name, _, rest = path.partition("/")
    resource = next((resource for resource in RESOURCES.values() if resource.kind == name), None)
    if resource is None:
        raise AdminError(404, {"error_msg": f"Unsupported resource type: {name}"})
    if request.method in ("POST", "PATCH") and request.method not in resource.verbs:
        raise blocked(resource, request.method)
    parts = len([part for part in rest.split("/") if part])
    if request.method in ("PUT", "PATCH", "DELETE") and parts < (2 if resource.kind in IN_TWO_PARTS else 1):
        raise missing_id(resource)
    raise AdminError(404, {"error_msg": "not found"})
