"""From what a client sent to what may be stored: the model's word, what an id allows, and a plugin's module pinned.

The law: what is stored is what the client said, without defaults, so that a later version's defaults count for it.
"""

from __future__ import annotations

from typing import Any

from control_plane.admin.modules import Modules
from control_plane.errors import BadRequest
from shared.plugin.registry import REFUSED, registry
from shared.schema.plugin_metadata import read_metadata
from shared.schema.resources import Resource, validate
from shared.schema.secret import read_secret
from shared.schema.wasm_plugin import WasmPluginSpec


async def complete(
    modules: Modules, resource: Resource, object_id: str, document: object, previous: dict[str, Any] | None
) -> dict[str, Any]:
    """The document as it is stored. Raises SchemaError, BadRequest."""
    spec = validate(resource.model, document)
    assert isinstance(document, dict)
    if isinstance(spec, WasmPluginSpec) and spec.module is not None:
        document = await _pinned(modules, spec, document, previous or {})
    check_name(resource, object_id, document)
    return document


async def _pinned(modules: Modules, spec: WasmPluginSpec, document: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    module_before = before.get("module")
    module = await modules.resolve(document["module"], module_before if isinstance(module_before, dict) else None)
    if module != module_before or document.get("limits") != before.get("limits"):
        await modules.check_memory(module["sha256"], spec.limits.memory_bytes)
    return {**document, "module": module}


def check_name(resource: Resource, object_id: str, document: dict[str, Any]) -> None:
    """What may be written under this id. Raises BadRequest, SchemaError."""
    if resource.kind == "plugin_metadata":
        read_metadata(object_id, document)
    elif resource.kind == "secrets":
        read_secret(object_id, document)
    elif resource.kind == "wasm_plugins" and (object_id in REFUSED or registry().get(object_id) is not None):
        raise BadRequest(f"the name {object_id} is that of a native plugin: a Wasm plugin needs another one")
