"""The `plugins` of a route, service, plugin_config or global rule: names, and what each plugin is told.

The law: a name of the registry is a native plugin, its configuration is what the plugin's own model says, beside `_meta`; any
other name is a Wasm plugin's, which takes `conf`. A native plugin is made once when its configuration is read, so that what it
refuses then (a regular expression that is none) is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.plugin.plugin import AnyPlugin
from shared.plugin.registry import REFUSED, registry
from shared.schema.common import Id, MetaSpec, PluginConf, Spec
from shared.secrets.references import has_references, is_reference


@dataclass(frozen=True, slots=True)
class NativeConf:
    """One native plugin with its configuration."""

    plugin: type[AnyPlugin]
    config: Any
    meta: MetaSpec


AnyConf = PluginConf | NativeConf


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    conf: object


class _WithMeta(Spec):
    """So that errors in `_meta` stand under its name."""

    meta: MetaSpec = Field(alias="_meta")


def _name_all(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: _Named(name, conf) if isinstance(name, str) else conf for name, conf in value.items()}


def _read(named: object) -> object:
    if not isinstance(named, _Named):
        return named
    name, conf = named.name, named.conf
    if name in REFUSED:
        raise PydanticCustomError("refused", "{why}", {"why": f"plugin [{name}] is not supported: {REFUSED[name]}"})
    plugin = registry().get(name)
    if plugin is None:
        return PluginConf.model_validate(conf)
    return native_conf(plugin, conf)


def native_conf(plugin: type[AnyPlugin], conf: object) -> NativeConf:
    """Raises ValidationError, PydanticCustomError."""
    fields = dict(conf) if isinstance(conf, dict) else conf
    meta = MetaSpec()
    if isinstance(fields, dict) and "_meta" in fields:
        meta = _WithMeta.model_validate({"_meta": fields.pop("_meta")}).meta
    config = validated(plugin.Config, fields)
    if not has_references(fields):
        try:
            plugin(config)
        except ValueError as error:
            raise PydanticCustomError("plugin", "{why}", {"why": str(error)}) from None
    return NativeConf(plugin, config, meta)


def validated(model: type[BaseModel], fields: object) -> BaseModel:
    """An instance of a plugin's model. A reference may stand for any text: what it stands for is looked at by a worker, which
    reads it in its place. Raises ValidationError."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        # It is a text: where a number is wanted it is wrong whatever it stands for.
        if not all(is_reference(detail["input"]) and not detail["type"].endswith("_type") for detail in details):
            raise
        assert isinstance(fields, dict)
        return model.model_construct(**fields)


_SCHEMA = {"type": "object", "description": "a Wasm plugin takes `conf`, a native one what GET /schema/plugins/{name} says"}
if TYPE_CHECKING:
    Plugins = dict[Id, AnyConf]
else:
    # What `_read` makes is no pydantic type.
    Plugins = Annotated[
        dict[Id, Annotated[Any, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]],
        BeforeValidator(_name_all),
    ]


def _only_wasm(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if registry().get(name) is not None:
            raise PydanticCustomError("refused", "{why}", {"why": f"plugin [{name}] is for HTTP, a TCP session takes none"})
    return value


# Of stream routes.
WasmPlugins = Annotated[dict[Id, PluginConf], BeforeValidator(_only_wasm)]
