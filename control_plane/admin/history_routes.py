"""What an object has been, and back to it.

The law: going back is a write like any other: it is checked against what is there now, and is a version of its own.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from control_plane.admin.answers import public, written
from control_plane.admin.body import read_json_or
from control_plane.admin.history import Past
from control_plane.admin.openapi import FAILURES, in_path, response
from control_plane.admin.options import Writes
from control_plane.admin.paths import ObjectId, Paths, checked_id
from control_plane.admin.resources import Resources
from control_plane.errors import answer
from shared.schema.common import Maybe, Spec
from shared.schema.resources import Resource, validate


class RestoreSpec(Spec):
    """Without a word: the version before the present one."""

    revision: Maybe[Annotated[int, Field(ge=1)]] = None


class HistoryRoutes:
    """Of one kind."""

    __slots__ = ("_resource", "_resources")

    def __init__(self, resource: Resource, resources: Resources) -> None:
        self._resource = resource
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        paths = Paths.of(self._resource.kind)
        tags: list[str | Enum] = [self._resource.kind]
        described = _described(self._resource, paths)
        router.add_api_route(f"{paths.one}/history", self.history, methods=["GET"], tags=tags, **described["history"])
        if self._resource.kind != "wasm_plugins":
            # Theirs is a rollback to a module as well (version_routes.py).
            router.add_api_route(f"{paths.one}/rollback", self.roll_back, methods=["POST"], tags=tags, **described["rollback"])

    async def history(self, id: ObjectId) -> Response:
        object_id = checked_id(self._resource, id)
        history, present = await self._resources.history(self._resource, object_id)
        versions = [*history.versions, *([] if present is None else [present])][::-1]
        found = [self._shown(object_id, version, version is present) for version in versions]
        return answer(200, {"total": len(found), "list": found})

    async def roll_back(self, id: ObjectId, request: Request, options: Writes) -> Response:
        wanted = validate(RestoreSpec, await read_json_or(request, {}))
        outcome = await self._resources.restore(self._resource, checked_id(self._resource, id), wanted.revision, options)
        return written(outcome, options)

    def _shown(self, object_id: str, version: Past, active: bool) -> dict[str, object]:
        value = None if version.value is None else public(self._resource, object_id, version.value)
        return {"revision": version.revision, "value": value, "active": active}


def _described(resource: Resource, paths: Paths) -> dict[str, dict[str, Any]]:
    singular = resource.singular.replace("_", " ")
    absent = {404: response("There never was such an object, as far as is known", "KeyNotFound")}
    parameters = [in_path(name) for name in paths.names]
    body = {"application/json": {"schema": RestoreSpec.model_json_schema(), "example": {"revision": 1}}}
    return {
        "history": {
            "summary": f"What the {singular} is and was, newest first",
            "operation_id": f"get_{resource.singular}_history",
            "responses": {200: response("The kept versions", "History"), **absent, **FAILURES},
            "openapi_extra": {"parameters": parameters},
        },
        "rollback": {
            "summary": f"Make the {singular} what it was at a revision, or before its last change",
            "operation_id": f"post_{resource.singular}_rollback",
            "responses": {
                200: response("The object as it is now", "Written"),
                201: response("The object, which had been deleted", "Written"),
                412: response("It is not what If-Match says", "Mismatch"),
                **absent,
                **FAILURES,
            },
            "openapi_extra": {"parameters": parameters, "requestBody": {"required": False, "content": body}},
        },
    }
