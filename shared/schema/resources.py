"""All kinds of resource in one table: what the Admin API serves and what a worker reads.

The law: whoever needs to know what a kind looks like, which verbs it takes or what it refers to reads `RESOURCES`; a
kind's name is its directory in the store and in the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, overload

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from shared.keys import Kind
from shared.plugin.registry import registry
from shared.schema.common import Spec
from shared.schema.consumer import ConsumerGroupSpec, ConsumerSpec, CredentialSpec
from shared.schema.document import DocumentError, decode
from shared.schema.errors import Problem, SchemaError, excerpt, from_validation, json_path, json_type
from shared.schema.global_rule import GlobalRuleSpec
from shared.schema.plugin_config import PluginConfigSpec
from shared.schema.plugin_metadata import PluginMetadataSpec
from shared.schema.proto import ProtoSpec
from shared.schema.route import RouteSpec
from shared.schema.secret import SecretSpec
from shared.schema.service import ServiceSpec
from shared.schema.ssl import SslSpec
from shared.schema.stream_route import StreamRouteSpec
from shared.schema.upstream import UpstreamSpec
from shared.schema.wasm_plugin import WasmPluginSpec

Verb = Literal["GET", "PUT", "POST", "PATCH", "DELETE"]
ALL_VERBS: frozenset[Verb] = frozenset({"GET", "PUT", "POST", "PATCH", "DELETE"})
NO_POST: frozenset[Verb] = ALL_VERBS - {"POST"}
NO_PATCH: frozenset[Verb] = ALL_VERBS - {"PATCH"}
WHOLE: frozenset[Verb] = frozenset({"GET", "PUT", "DELETE"})

# What the Admin API adds to a stored document; no part of the resource itself.
TIMESTAMPS = ("create_time", "update_time")
BOOKKEEPING = ("id", *TIMESTAMPS)

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class Resource:
    """`references` maps a property to the kind that it names an object of; no answer shows the properties in `secrets`. Those
    inside of others are written with a dot. `id_property` is what a document calls its own id."""

    kind: Kind
    singular: str
    model: type[Spec]
    verbs: frozenset[Verb] = ALL_VERBS
    references: Mapping[str, Kind] = field(default_factory=dict)
    has_plugins: bool = False
    secrets: tuple[str, ...] = ()
    id_property: str = "id"


_OF_INLINE_UPSTREAM: Mapping[str, Kind] = {"upstream.tls.client_cert_id": "ssls"}

RESOURCES: dict[Kind, Resource] = {
    resource.kind: resource
    for resource in (
        Resource(
            "routes",
            "route",
            RouteSpec,
            references={
                "upstream_id": "upstreams",
                "service_id": "services",
                "plugin_config_id": "plugin_configs",
                **_OF_INLINE_UPSTREAM,
            },
            has_plugins=True,
            secrets=("upstream.tls.client_key",),
        ),
        Resource(
            "services",
            "service",
            ServiceSpec,
            references={"upstream_id": "upstreams", **_OF_INLINE_UPSTREAM},
            has_plugins=True,
            secrets=("upstream.tls.client_key",),
        ),
        Resource(
            "upstreams",
            "upstream",
            UpstreamSpec,
            references={"tls.client_cert_id": "ssls"},
            secrets=("tls.client_key",),
        ),
        Resource("plugin_configs", "plugin_config", PluginConfigSpec, NO_POST, has_plugins=True),
        Resource("global_rules", "global_rule", GlobalRuleSpec, NO_POST, has_plugins=True),
        Resource(
            "stream_routes",
            "stream_route",
            StreamRouteSpec,
            NO_PATCH,
            references={"upstream_id": "upstreams", "service_id": "services", **_OF_INLINE_UPSTREAM},
            has_plugins=True,
            secrets=("upstream.tls.client_key",),
        ),
        Resource("wasm_plugins", "wasm_plugin", WasmPluginSpec, NO_POST),
        Resource("plugin_metadata", "plugin_metadata", PluginMetadataSpec, WHOLE),
        Resource("ssls", "ssl", SslSpec, secrets=("key", "keys")),
        Resource("secrets", "secret", SecretSpec, NO_POST, secrets=("token",)),
        Resource(
            "consumers",
            "consumer",
            ConsumerSpec,
            WHOLE,
            references={"group_id": "consumer_groups"},
            has_plugins=True,
            id_property="username",
        ),
        Resource("credentials", "credential", CredentialSpec, WHOLE),
        Resource("protos", "proto", ProtoSpec, NO_PATCH),
        Resource("consumer_groups", "consumer_group", ConsumerGroupSpec, NO_POST, has_plugins=True),
    )
}


def validate(model: type[S], document: object) -> S:
    """The document as a model; raises SchemaError."""
    if not isinstance(document, dict):
        raise SchemaError((Problem("$", f"wrong type: expected object, got {json_type(document)}"),))
    for name, conf in _plugins_of(document).items():
        if not isinstance(conf, dict):
            text = f"invalid plugin conf {excerpt(conf)} for plugin [{name}]"
            raise SchemaError((Problem(json_path(("plugins", name)), text),))
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise from_validation(error, lambda location: _properties(model, location)) from error


@overload
def parse_stored(kind: Literal["routes"], data: bytes) -> RouteSpec: ...
@overload
def parse_stored(kind: Literal["services"], data: bytes) -> ServiceSpec: ...
@overload
def parse_stored(kind: Literal["upstreams"], data: bytes) -> UpstreamSpec: ...
@overload
def parse_stored(kind: Literal["plugin_configs"], data: bytes) -> PluginConfigSpec: ...
@overload
def parse_stored(kind: Literal["global_rules"], data: bytes) -> GlobalRuleSpec: ...
@overload
def parse_stored(kind: Literal["stream_routes"], data: bytes) -> StreamRouteSpec: ...
@overload
def parse_stored(kind: Literal["wasm_plugins"], data: bytes) -> WasmPluginSpec: ...
@overload
def parse_stored(kind: Kind, data: bytes) -> Spec: ...
def parse_stored(kind: Kind, data: bytes) -> Spec:
    """A stored value without its bookkeeping; raises DocumentError or SchemaError, both ValueErrors."""
    document = decode(data)
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name not in BOOKKEEPING}
    return validate(RESOURCES[kind].model, document)


def _plugins_of(document: dict[str, Any]) -> dict[str, Any]:
    plugins = document.get("plugins")
    return plugins if isinstance(plugins, dict) else {}


def _properties(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, ...]:
    """The property names of the object at a location, as far as models describe it."""
    if len(location) >= 2 and location[0] == "plugins":
        return _of_plugin(str(location[1]), location[2:], model in (ConsumerSpec, CredentialSpec))
    for part in location:
        if part not in model.model_fields:
            return ()
        inner = _model_in(model.model_fields[str(part)].annotation)
        if inner is None:
            return ()
        model = inner
    return tuple(info.alias or name for name, info in model.model_fields.items())


def _of_plugin(name: str, location: tuple[str | int, ...], of_consumer: bool) -> tuple[str, ...]:
    plugin = registry().get(name)
    if plugin is None:
        return ("conf", "_meta")
    if of_consumer and plugin.kind == "auth":
        return () if plugin.Consumer is None else _properties(plugin.Consumer, location)
    return (*_properties(plugin.Config, location), "_meta") if not location else _properties(plugin.Config, location)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


class AbsentNotNull(GenerateJsonSchema):
    """JSON Schema in which a property that may be absent does not look as if it may be null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def json_schema(kind: Kind) -> dict[str, Any]:
    """The JSON Schema of a kind, as its model defines it."""
    return RESOURCES[kind].model.model_json_schema(schema_generator=AbsentNotNull)


__all__ = [
    "ALL_VERBS",
    "BOOKKEEPING",
    "RESOURCES",
    "TIMESTAMPS",
    "AbsentNotNull",
    "DocumentError",
    "Kind",
    "Resource",
    "SchemaError",
    "Verb",
    "json_schema",
    "parse_stored",
    "validate",
]
