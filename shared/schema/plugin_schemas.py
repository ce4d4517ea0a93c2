"""The JSON Schemas of native plugins, as their models define them.

The law: what the schema says of a field is what the model refuses; `_meta`, which is the gateway's, stands beside the fields.
"""

from __future__ import annotations

from typing import Any, Literal

from shared.plugin.plugin import AnyPlugin
from shared.schema.common import MetaSpec, PluginConf
from shared.schema.resources import AbsentNotNull

SchemaType = Literal["", "consumer", "metadata"]


def plugin_schema(plugin: type[AnyPlugin], part: SchemaType = "") -> dict[str, Any] | None:
    """Of the configuration, or of another part; None where the plugin has none."""
    model = {"": plugin.Config, "consumer": plugin.Consumer, "metadata": plugin.Metadata}[part]
    if model is None:
        return None
    schema: dict[str, Any] = model.model_json_schema(schema_generator=AbsentNotNull)
    return schema if part else {**schema, "properties": {**schema.get("properties", {}), "_meta": _meta(schema)}}


def wasm_schema() -> dict[str, Any]:
    return PluginConf.model_json_schema(schema_generator=AbsentNotNull)


def plugin_entry(plugin: type[AnyPlugin]) -> dict[str, Any]:
    """As `GET /plugins?all=true` shows it."""
    entry = {"version": plugin.version, "priority": plugin.priority, "type": plugin.kind, "scope": "global"}
    parts = {"schema": plugin_schema(plugin), "consumer_schema": plugin_schema(plugin, "consumer")}
    parts["metadata_schema"] = plugin_schema(plugin, "metadata")
    return entry | {name: schema for name, schema in parts.items() if schema is not None}


def _meta(schema: dict[str, Any]) -> dict[str, Any]:
    meta = MetaSpec.model_json_schema(schema_generator=AbsentNotNull)
    definitions = meta.pop("$defs", {})
    if definitions:
        schema.setdefault("$defs", {}).update(definitions)
    return meta
