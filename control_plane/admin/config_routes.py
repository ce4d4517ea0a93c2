"""`/apisix/admin/configs`: the whole configuration, as APISIX's standalone mode takes it.

The law: a PUT is one change for whoever watches, however large it is. `X-Digest` is the client's own word for what it sends;
the same word for what is there already changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum
from typing import Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from control_plane.admin.answers import change_of
from control_plane.admin.body import read_document
from control_plane.admin.config_record import read_record
from control_plane.admin.configs import (
    VERSION,
    Mistake,
    Section,
    check_sections,
    content_digest,
    document_of,
    next_versions,
    operations_of,
    prune_of,
    read_present,
    read_sections,
)
from control_plane.admin.draft import Draft
from control_plane.admin.openapi import FAILURES, REFERENCE, response
from control_plane.admin.operations import Committed, Operation, Removal, Write
from control_plane.admin.options import Unmatched
from control_plane.admin.refusal import Refused
from control_plane.admin.resources import Resources
from control_plane.admin.writer import Made
from control_plane.errors import AdminError, BadRequest, answer
from shared.keys import KINDS, Kind, ResourceKey
from shared.yaml_document import encode_yaml

YAML = "application/yaml"
MISSING = "missing configurations"
# So many mistakes are told at once.
SHOWN = 100

DIGEST: str | None = Header(None, description="the client's own name for the configuration that it sends")
PRUNE: str = Query("all", description="what the document lacks is deleted: `all`, in the `sections` that it has, or `none`")


@dataclass(slots=True)
class _Round:
    """What the last round of a PUT has found."""

    unchanged: bool = False
    operations: Sequence[Operation] = ()


class ConfigRoutes:
    __slots__ = ("_resources",)

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        tags: list[str | Enum] = ["configs"]
        router.add_api_route("/configs", self.get, methods=["GET"], tags=tags, **_GET)
        router.add_api_route("/configs", self.get, methods=["HEAD"], include_in_schema=False)
        router.add_api_route("/configs", self.put, methods=["PUT"], tags=tags, **_PUT)
        router.add_api_route("/configs/validate", self.validate, methods=["POST"], tags=tags, **_VALIDATE)

    async def get(self, request: Request) -> Response:
        await self._resources.writer.batches.wait()
        draft = Draft(self._resources.store)
        present, record = await read_present(draft), await read_record(draft)
        document = document_of(present)
        versions = {f"{kind}{VERSION}": record.version(kind, present) for kind in KINDS}
        digest = record.digest if record.describes(present) else content_digest(document)
        headers = {"X-Digest": digest, "X-Waspgate-Revision": str(present.revision)}
        if record.time:
            headers["X-Last-Modified"] = formatdate(record.time, usegmt=True)
        whole = {**document, **versions}
        if "yaml" in request.headers.get("accept", ""):
            return Response(encode_yaml(whole), 200, headers, YAML)
        found = answer(200, whole)
        found.headers.update(headers)
        return found

    async def put(self, request: Request, options: Unmatched, x_digest: str | None = DIGEST, prune: str = PRUNE) -> Response:
        if not x_digest:
            raise BadRequest("missing digest header")
        digest, mode = x_digest, prune_of(prune)
        sections, given, mistakes = read_sections(await read_document(request, MISSING))
        if mistakes:
            raise _invalid(mistakes)
        found = _Round()

        async def make(draft: Draft) -> Made:
            present, record = await read_present(draft), await read_record(draft)
            current = {kind: record.version(kind, present) for kind in KINDS}
            versions = next_versions(given, current)
            found.unchanged = record.digest == digest and record.describes(present)
            if found.unchanged:
                return Made(())
            # A section that comes with the version which is there stays as it is.
            settled = {kind for kind, number in given.items() if number and number == current[kind]}
            found.operations = operations_of(sections, present, mode, settled)
            count = len({*present.objects} | _written(found.operations)) - _removed(found.operations)
            now = int(self._resources.writer.clock())
            return Made(found.operations, record.replaced_by(digest, count, now, versions))

        wanted = replace(options, several=True, skips_unchanged=True, batches=True)
        try:
            committed = await self._resources.writer.run_made(make, wanted)
        except Refused as refused:
            raise _invalid(_placed(refused, sections, found.operations)) from refused
        if found.unchanged:
            return Response(status_code=204)
        return _answered(committed, simulated=options.simulate)

    async def validate(self, request: Request) -> Response:
        sections, _, mistakes = read_sections(await read_document(request, MISSING))
        mistakes += check_sections(sections, await read_present(Draft(self._resources.store)))
        if mistakes:
            raise _invalid(mistakes)
        return answer(200, {})


def _written(operations: Sequence[Operation]) -> set[ResourceKey]:
    return {ResourceKey(one.resource.kind, str(one.id)) for one in operations if isinstance(one, Write)}


def _removed(operations: Sequence[Operation]) -> int:
    return sum(isinstance(one, Removal) for one in operations)


def _answered(committed: Committed, *, simulated: bool) -> Response:
    changed = [outcome for outcome in committed.outcomes if not outcome.unchanged]
    counts = Counter(outcome.action for outcome in committed.outcomes)
    body: dict[str, object] = {name: counts[name] for name in ("create", "replace", "delete", "unchanged")}
    if simulated:
        return answer(200, {"dry_run": True, **body, "changes": [change_of(outcome) for outcome in changed]})
    changes = [{"key": outcome.key, "action": outcome.action} for outcome in changed]
    return answer(202, {"revision": committed.revision, **body, "changes": changes}, committed.revision or None)


def _placed(refused: Refused, sections: Mapping[Kind, Section], operations: Sequence[Operation]) -> list[Mistake]:
    """The mistakes at the places that their objects have in the document."""
    mistakes: list[Mistake] = []
    for number, mistake in refused.mistakes:
        operation = operations[number]
        kind, object_id = operation.resource.kind, str(operation.id)
        section = sections.get(kind)
        index = None if section is None else section.places.get(object_id)
        path = f"$.{kind}" if index is None else f"$.{kind}[{index}]{str(mistake['path'])[1:]}"
        mistakes.append(Mistake(kind, object_id, index, str(mistake["message"]), path))
    return mistakes


def _invalid(mistakes: Sequence[Mistake]) -> AdminError:
    errors = [mistake.document() for mistake in mistakes[:SHOWN]]
    body: dict[str, object] = {"error_msg": "Configuration validation failed", "errors": errors}
    return AdminError(400, body if len(mistakes) <= SHOWN else {**body, "total_errors": len(mistakes)})


_EXAMPLE = {"upstreams": [{"id": "1", "nodes": {"127.0.0.1:9099": 1}}]}
_CONTENT = {"schema": {"$ref": REFERENCE.format(model="Configs")}, "example": _EXAMPLE}
_BODY = {"requestBody": {"required": True, "content": {"application/json": _CONTENT, YAML: _CONTENT}}}
_REFUSED = response("What is wrong, and where", "ConfigsRefused")
_GET: dict[str, Any] = {
    "summary": "The whole configuration, as JSON or, if that is accepted, as YAML",
    "operation_id": "get_configs",
    "responses": {200: response("All objects by kind, without secrets", "Configs"), **FAILURES},
}
_PUT: dict[str, Any] = {
    "summary": "Replace the whole configuration, at once",
    "operation_id": "put_configs",
    "status_code": 202,
    "responses": {
        200: response("With `dry_run=true`: what would change", "ConfigsWritten"),
        202: response("What has changed", "ConfigsWritten"),
        204: {"description": "A configuration with this digest is there already"},
        413: response("One object is larger than the store takes", "Error"),
        **FAILURES,
        400: _REFUSED,
    },
    "openapi_extra": _BODY,
}
_VALIDATE: dict[str, Any] = {
    "summary": "Whether a whole configuration is valid; not whether what its objects name is there",
    "operation_id": "post_configs_validate",
    "responses": {200: response("It is", "Nothing"), **FAILURES, 400: _REFUSED},
    "openapi_extra": _BODY,
}
