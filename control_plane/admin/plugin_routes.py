"""Which plugins there are, and what they may be told.

The law: names are those that a route may say now: native plugins of this installation and Wasm plugins of the store.
"""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from control_plane.admin.openapi import FAILURES, response
from control_plane.admin.resources import Resources
from control_plane.errors import AdminError, BadRequest, answer
from shared.plugin.registry import registry
from shared.schema.plugin_schemas import SchemaType, plugin_entry, plugin_schema, wasm_schema
from shared.schema.resources import RESOURCES

SUBSYSTEMS = ("http", "stream")
_WASM = RESOURCES["wasm_plugins"]

SUBSYSTEM: str = Query("http", description="http or stream")
SCHEMA_TYPE: str = Query("", description="consumer or metadata: the schema of that part")


class PluginRoutes:
    __slots__ = ("_resources",)

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def register(self, router: APIRouter) -> None:
        described: dict[str, Any] = {"methods": ["GET"], "tags": ["plugins"], "responses": FAILURES}
        router.add_api_route("/plugins/list", self.names, summary="The names, by priority", **described)
        for verb in ("GET", "PUT", "POST", "PATCH", "DELETE"):
            router.add_api_route("/plugins/reload", self.reload, methods=[verb], include_in_schema=False)
        router.add_api_route("/plugins", self.all, summary="All native plugins, with their schemas", **described)
        named = {**described, "responses": {404: response("There is no such plugin", "Error"), **FAILURES}}
        router.add_api_route("/plugins/{name}", self.schema, summary="The schema of a plugin's configuration", **named)
        router.add_api_route("/schema/plugins/{name}", self.schema, summary="The same", **named)

    async def names(self, subsystem: str = SUBSYSTEM) -> Response:
        found = [(plugin.priority, plugin.name) for plugin in _native(subsystem)]
        for item in await self._resources.list(_WASM):
            priority = item.value.get("priority", 0) if isinstance(item.value, dict) else 0
            found.append((priority if isinstance(priority, int) else 0, item.key.rpartition("/")[2]))
        return answer(200, [name for _, name in sorted(found, key=lambda one: (-one[0], one[1]))])

    async def reload(self, request: Request) -> Response:
        """What APISIX's clients ask for when a plugin's file is new. Here a plugin is in service as soon as its module is
        uploaded, and native plugins are those that the processes were started with: there is nothing left to do."""
        if request.method != "PUT":
            text = f"please use PUT method to reload the plugins, {request.method} method is not allowed."
            raise AdminError(405, {"error_msg": text})
        return answer(200, "done")

    async def all(self, all: str | None = Query(None), subsystem: str = SUBSYSTEM) -> Response:
        return answer(200, {plugin.name: plugin_entry(plugin) for plugin in _native(subsystem)})

    async def schema(self, name: str, subsystem: str = SUBSYSTEM, schema_type: str = SCHEMA_TYPE) -> Response:
        native = {plugin.name: plugin for plugin in _native(subsystem)}
        part = _part(schema_type)
        if name in native:
            return answer(200, plugin_schema(native[name], part) or {})
        if any(item.key.rpartition("/")[2] == name for item in await self._resources.list(_WASM)):
            return answer(200, {} if part else wasm_schema())
        raise AdminError(404, {"error_msg": f"plugin not found in subsystem {subsystem}"})


def _native(subsystem: str) -> list[Any]:
    """TCP sessions take Wasm plugins only. Raises BadRequest."""
    if subsystem not in SUBSYSTEMS:
        raise BadRequest(f"unsupported subsystem: {subsystem}")
    return registry().by_priority() if subsystem == "http" else []


def _part(text: str) -> SchemaType:
    for part in get_args(SchemaType):
        if part == text:
            return part  # type: ignore[no-any-return]  # one of SchemaType
    raise BadRequest(f"invalid argument schema_type: expected consumer or metadata, got {text[:40]}")
