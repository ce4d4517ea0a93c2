"""Consumers, their credentials, and consumer groups: who requests come from, and which plugins they bring with them.

The law: what an auth plugin is told here is that plugin's `Consumer`, what it looks a consumer up by; any other native plugin
takes its configuration, which counts before the route's. Wasm plugins run where routes name them: nobody brings one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.plugin.plugin import AnyPlugin
from shared.plugin.registry import REFUSED, registry
from shared.schema.common import Described, Description, Id, Labels, Maybe, ReferenceId, Spec
from shared.schema.plugins import NativeConf, native_conf, validated
from shared.secrets.references import has_references

USERNAME_PATTERN = r"^[a-zA-Z0-9_\-]+$"
Username = Annotated[str, Field(min_length=1, max_length=256, pattern=USERNAME_PATTERN)]


@dataclass(frozen=True, slots=True)
class AuthPart:
    """What a consumer says of itself to one auth plugin; `value` is an instance of the plugin's `Consumer`."""

    plugin: type[AnyPlugin]
    value: Any = field(repr=False)

    @property
    def key(self) -> str:
        return self.plugin.consumer_key(self.value)


BroughtConf = AuthPart | NativeConf


def _native(name: str) -> type[AnyPlugin]:
    if name in REFUSED:
        raise PydanticCustomError("refused", "{why}", {"why": f"plugin [{name}] is not supported: {REFUSED[name]}"})
    plugin = registry().get(name)
    if plugin is None:
        why = f"unknown plugin [{name}]: consumers bring native plugins only, Wasm plugins run where routes name them"
        raise PydanticCustomError("refused", "{why}", {"why": why})
    return plugin


def _auth_part(plugin: type[AnyPlugin], conf: object) -> AuthPart:
    if plugin.Consumer is None:
        raise PydanticCustomError("refused", "{why}", {"why": f"plugin [{plugin.name}] is told nothing by consumers"})
    part = AuthPart(plugin, validated(plugin.Consumer, conf))
    if has_references(conf):
        return part
    try:
        plugin.consumer_key(part.value)
    except ValueError as error:
        raise PydanticCustomError("plugin", "{why}", {"why": str(error)}) from None
    return part


def _brought(name: str, conf: object) -> BroughtConf:
    plugin = _native(name)
    return _auth_part(plugin, conf) if plugin.kind == "auth" else native_conf(plugin, conf)


def _of_credential(name: str, conf: object) -> BroughtConf:
    plugin = _native(name)
    if plugin.kind != "auth":
        raise PydanticCustomError("refused", "only supports auth type plugins in consumer credential")
    return _auth_part(plugin, conf)


def _of_group(name: str, conf: object) -> BroughtConf:
    plugin = _native(name)
    if plugin.kind == "auth":
        why = f"plugin [{name}] tells consumers apart: a group has none of its own, name it at the consumers"
        raise PydanticCustomError("refused", "{why}", {"why": why})
    return native_conf(plugin, conf)


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    conf: object = field(repr=False)


def _name_all(value: object) -> object:
    """A validator of a dict's values is not told their keys."""
    if not isinstance(value, dict):
        return value
    return {name: _Named(name, conf) if isinstance(name, str) else conf for name, conf in value.items()}


if TYPE_CHECKING:
    ConsumerPlugins = dict[Id, BroughtConf]
    CredentialPlugins = dict[Id, AuthPart]
    GroupPlugins = dict[Id, NativeConf]
else:

    def _plugins(read, what):  # noqa: ANN001, ANN202 - what it makes is no pydantic type
        def each(named: object) -> object:
            return read(named.name, named.conf) if isinstance(named, _Named) else named

        schema = WithJsonSchema({"type": "object", "description": what})
        return Annotated[dict[Id, Annotated[Any, BeforeValidator(each), schema]], BeforeValidator(_name_all)]

    _PART = "what GET /plugins/{name}?schema_type=consumer says"
    ConsumerPlugins = _plugins(_brought, f"{_PART} for an auth plugin, the configuration for others")
    CredentialPlugins = Annotated[_plugins(_of_credential, _PART), Field(max_length=1)]
    GroupPlugins = _plugins(_of_group, "what GET /schema/plugins/{name} says")


class ConsumerSpec(Spec):
    """Its id is `username`."""

    username: Username
    group_id: Maybe[ReferenceId] = None
    plugins: ConsumerPlugins = Field(default_factory=dict)
    desc: Maybe[Description] = None
    labels: Maybe[Labels] = None


class CredentialSpec(Described):
    """One more way for a consumer to authenticate itself; the id is `username/id`."""

    plugins: CredentialPlugins = Field(default_factory=dict)


class ConsumerGroupSpec(Described):
    """What the consumers that name it bring, unless they bring it themselves."""

    plugins: GroupPlugins
