"""A plugin's module as raw bytes: upload and download.

The law: an upload that is refused changes nothing; one that is accepted is stored, and pointed at, before the answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from control_plane.admin.answers import simulated
from control_plane.admin.body import read_module
from control_plane.admin.modules import Modules
from control_plane.admin.openapi import FAILURES, response
from control_plane.admin.options import Deletes
from control_plane.admin.paths import checked_id
from control_plane.admin.resources import Resources
from control_plane.errors import KeyNotFound, answer
from shared.schema.resources import RESOURCES
from shared.store.blobs import MAX_MODULE_BYTES

WASM = "application/wasm"
PLUGINS = RESOURCES["wasm_plugins"]
PATH = "/wasm_plugins/{id}/module"

_BINARY = {"content": {WASM: {"schema": {"type": "string", "format": "binary"}}}}


class ModuleRoutes:
    __slots__ = ("_modules", "_resources")

    def __init__(self, resources: Resources, modules: Modules) -> None:
        self._resources = resources
        self._modules = modules

    def register(self, router: APIRouter) -> None:
        router.add_api_route(PATH, self.upload, methods=["PUT"], tags=[PLUGINS.kind], **_UPLOAD)
        router.add_api_route(PATH, self.download, methods=["GET"], tags=[PLUGINS.kind], **_DOWNLOAD)

    async def upload(self, id: str, request: Request, options: Deletes) -> Response:
        name = checked_id(PLUGINS, id)
        report = await self._modules.accept(await read_module(request, MAX_MODULE_BYTES))
        outcome = await self._resources.set_module(PLUGINS, name, report.sha256, options)
        if options.simulate:
            return simulated((outcome,))
        body = {"key": outcome.key, **asdict(report)}
        return answer(201 if outcome.created else 200, body, outcome.revision)

    async def download(self, id: str) -> Response:
        item = await self._resources.get(PLUGINS, checked_id(PLUGINS, id))
        module = item.property("module")
        sha256 = module.get("sha256") if isinstance(module, dict) else None
        data = await self._modules.get(sha256) if isinstance(sha256, str) else None
        if data is None:
            raise KeyNotFound
        return Response(data, 200, {"ETag": f'"{sha256}"'}, WASM)


_UPLOAD: dict[str, Any] = {
    "summary": "Upload a plugin's module: inspect it, store it, point the plugin at it",
    "operation_id": "put_wasm_plugin_module",
    "responses": {
        200: response("What the module is", "ModuleReport"),
        201: response("What the module is; the plugin is new", "ModuleReport"),
        413: response("The module is too large", "Error"),
        **FAILURES,
    },
    "openapi_extra": {"requestBody": {"required": True, **_BINARY}},
}
_DOWNLOAD: dict[str, Any] = {
    "summary": "Download a plugin's module",
    "operation_id": "get_wasm_plugin_module",
    "responses": {
        200: {"description": "The Wasm file", **_BINARY},
        404: response("There is no such plugin, or it has no module", "KeyNotFound"),
        **FAILURES,
    },
}
