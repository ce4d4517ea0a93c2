"""The versions of a plugin: which there are, and back to one of them.

The law: going back is a write like any other. It points the plugin at bytes that are in the store, asks the plugin first, and
is live as soon as an upload would be.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from control_plane.admin.answers import simulated, written
from control_plane.admin.body import read_json_or
from control_plane.admin.openapi import FAILURES, response
from control_plane.admin.options import Deletes
from control_plane.admin.paths import checked_id
from control_plane.admin.resources import Resources
from control_plane.admin.versions import choose
from control_plane.errors import BadRequest, answer
from shared.schema.common import Maybe, Spec
from shared.schema.resources import RESOURCES, validate
from shared.schema.wasm_plugin import Sha256

PLUGINS = RESOURCES["wasm_plugins"]
PATH = "/wasm_plugins/{id}"


class RollbackSpec(Spec):
    """Without a word about it: the version that was in service before the one that is. `revision` is of the store: the whole
    plugin as it was then."""

    revision: Maybe[Annotated[int, Field(ge=1)]] = None
    version: Maybe[Annotated[int, Field(ge=1)]] = None
    sha256: Maybe[Sha256] = None


class VersionRoutes:
    __slots__ = ("_resources",)

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        router.add_api_route(f"{PATH}/versions", self.versions, methods=["GET"], tags=[PLUGINS.kind], **_VERSIONS)
        router.add_api_route(f"{PATH}/rollback", self.roll_back, methods=["POST"], tags=[PLUGINS.kind], **_ROLLBACK)

    async def versions(self, id: str) -> Response:
        name = checked_id(PLUGINS, id)
        current = await self._current(name)
        kept = sorted(await self._resources.module_versions(name), key=lambda version: -version.version)
        found = [{**asdict(version), "active": version.sha256 == current} for version in kept]
        return answer(200, {"total": len(found), "list": found})

    async def roll_back(self, id: str, request: Request, options: Deletes) -> Response:
        name = checked_id(PLUGINS, id)
        wanted = validate(RollbackSpec, await read_json_or(request, {}))
        if wanted.revision is not None:
            if wanted.version is not None or wanted.sha256 is not None:
                raise BadRequest("a revision names the whole plugin as it was: version and sha256 name only its module")
            return written(await self._resources.restore(PLUGINS, name, wanted.revision, options), options)
        current = await self._current(name)
        version = choose(await self._resources.module_versions(name), current, number=wanted.version, sha256=wanted.sha256)
        outcome = await self._resources.set_module(PLUGINS, name, version.sha256, options)
        if options.simulate:
            return simulated((outcome,))
        body = {"key": outcome.key, "value": outcome.value, "version": version.version}
        return answer(200, body, outcome.revision)

    async def _current(self, name: str) -> str | None:
        """The digest of the plugin's module; raises KeyNotFound."""
        module = (await self._resources.get(PLUGINS, name)).property("module")
        return module.get("sha256") if isinstance(module, dict) else None


_VERSIONS: dict[str, Any] = {
    "summary": "List the modules that a plugin has had, newest first",
    "operation_id": "get_wasm_plugin_versions",
    "responses": {
        200: response("The kept versions", "Versions"),
        404: response("There is no such plugin", "KeyNotFound"),
        **FAILURES,
    },
}
_ROLLBACK: dict[str, Any] = {
    "summary": "Point a plugin at a module that it has had: the one before, or the one that is named",
    "operation_id": "post_wasm_plugin_rollback",
    "responses": {
        200: response("The plugin as it is now", "RolledBack"),
        201: response("The plugin, which had been deleted", "Written"),
        412: response("It is not what If-Match says", "Mismatch"),
        404: response("There is no such plugin", "KeyNotFound"),
        **FAILURES,
    },
    "openapi_extra": {
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {"schema": RollbackSpec.model_json_schema(), "example": {"version": 1}},
            },
        }
    },
}
