"""The OpenAPI document: the routes as FastAPI knows them, with the bodies that the models in shared/schema define.

The law: a body is described by the model that validates it, so that the page and the server cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from control_plane.admin.example_ssl import example_ssl
from control_plane.admin.transactions import TransactionSpec
from control_plane.cluster.described import SHAPES, describe_waiting
from shared.keys import IN_TWO_PARTS, Kind
from shared.proxy_wasm.inspect import ModuleReport
from shared.schema.resources import RESOURCES, AbsentNotNull, Resource, Verb

REFERENCE = "#/components/schemas/{model}"

_SUMMARIES = {
    "list_all": "List all {plural}",
    "put_by_body": "Create or replace {a} {singular}, its id in the body",
    "post": "Create {a} {singular} under a new id",
    "get": "Read {a} {singular}",
    "put": "Create or replace {a} {singular}",
    "patch": "Change {a} {singular}: objects merge, null deletes, anything else replaces",
    "patch_at": "Set one place inside {a} {singular}, null deletes it",
    "delete": "Delete {a} {singular} that nothing uses",
}

_TEXT = {"type": "string"}
_INDEX = {"type": "integer"}


def _object(required: dict[str, Any], **optional: object) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _sections() -> dict[str, Any]:
    lists = {kind: {"type": "array", "items": {"type": "object"}} for kind in RESOURCES}
    return lists | {f"{kind}_conf_version": _INDEX for kind in RESOURCES}


_PROBLEM = _object({"path": _TEXT, "message": _TEXT}, log={"type": "array", "items": _TEXT})
_PAST = _object({"revision": _INDEX, "active": {"type": "boolean"}}, value={"type": ["object", "null"]})
_MISTAKE = _object({"path": _TEXT}, resource_type=_TEXT, resource_id=_TEXT, index=_INDEX, error=_TEXT)
_VERSION = _object({"version": _INDEX, "sha256": _TEXT, "module": {"type": "object"}, "active": {"type": "boolean"}})
_SHAPES: dict[str, dict[str, Any]] = {
    "Error": _object({"error_msg": _TEXT}, errors={"type": "array", "items": _PROBLEM}, req_body=_TEXT),
    "Unauthorized": _object({"error_msg": _TEXT, "description": _TEXT}),
    # A path that no id can have is answered with an error_msg.
    "KeyNotFound": _object({}, message=_TEXT, error_msg=_TEXT),
    "Mismatch": _object({"error_msg": _TEXT, "expected": _TEXT, "current": _INDEX}),
    "History": _object({"total": _INDEX, "list": {"type": "array", "items": _PAST}}),
    "ModuleReport": TypeAdapter(ModuleReport).json_schema(),
    "Versions": _object({"total": _INDEX, "list": {"type": "array", "items": _VERSION}}),
    "RolledBack": _object({"key": _TEXT, "value": {"type": "object"}, "version": _INDEX}),
    "Configs": {"type": "object", "properties": _sections()},
    "ConfigsWritten": _object(
        {"create": _INDEX, "replace": _INDEX, "delete": _INDEX, "unchanged": _INDEX},
        revision=_INDEX,
        dry_run={"const": True},
        changes={"type": "array", "items": {"type": "object"}},
    ),
    "ConfigsRefused": _object(
        {"error_msg": _TEXT},
        errors={
            "type": "array",
            "items": _object({"path": _TEXT}, resource_type=_TEXT, resource_id=_TEXT, index=_INDEX, error=_TEXT),
        },
        total_errors=_INDEX,
        req_body=_TEXT,
    ),
    "Nothing": {"type": "object", "maxProperties": 0},
    "Transacted": _object(
        {},
        revision=_INDEX,
        results={"type": "array", "items": _object({"key": _TEXT, "action": _TEXT}, value={"type": "object"})},
        dry_run={"const": True},
        changes={"type": "array", "items": {"type": "object"}},
    ),
    "Deleted": _object({"deleted": {"const": "1"}, "key": _TEXT}),
    "Written": _object({"key": _TEXT, "value": {"type": "object"}}),
    "Entry": _object({"key": _TEXT, "value": {"type": "object"}, "createdIndex": _INDEX, "modifiedIndex": _INDEX}),
    "List": _object(
        {"total": _INDEX, "list": {"type": "array", "items": {"$ref": REFERENCE.format(model="Entry")}}},
    ),
}

# What a person who tries an operation begins with.
_PLUGINS = {"greeting": {"conf": {"value": "hello"}}}
_UPSTREAM = {"nodes": {"127.0.0.1:9099": 1}}
EXAMPLES: dict[Kind, dict[str, Any]] = {
    "routes": {"uri": "/hello", "service_id": "example"},
    "services": {"plugins": _PLUGINS, "upstream": _UPSTREAM},
    "upstreams": _UPSTREAM,
    "plugin_configs": {"plugins": _PLUGINS},
    "global_rules": {"plugins": _PLUGINS},
    "stream_routes": {"server_port": 9100, "upstream": {"nodes": {"127.0.0.1:5432": 1}}},
    "wasm_plugins": {"priority": 100, "failure_policy": "fail_open"},
    "plugin_metadata": {"https_port": 8443},
    "ssls": example_ssl("example.com"),
    "consumers": {"username": "jack", "plugins": {}},
    "credentials": {"plugins": {"key-auth": {"key": "a-key"}}},
    "consumer_groups": {"plugins": {}},
    "protos": {"content": 'syntax = "proto3"; message Hello { string name = 1; }'},
    "secrets": {"uri": "https://vault.example.com:8200", "prefix": "kv/gateway", "token": "hvs.a-token"},
}

Responses = dict[int | str, dict[str, Any]]


def response(description: str, shape: str) -> dict[str, Any]:
    """One entry of an operation's `responses`."""
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model=shape)}}}
    return {"description": description, "content": content}


FAILURES: Responses = {
    400: response("The request is wrong: where, and what was expected", "Error"),
    401: response("No key, or a wrong one", "Unauthorized"),
    403: response("The key is for other resources or addresses", "Error"),
    429: response("Too many wrong keys from this address", "Error"),
    503: response("The configuration store is unavailable", "Error"),
}
_UNLIKE: Responses = {412: response("The object is not what If-Match or If-None-Match says", "Mismatch")}
_ABSENT: Responses = {404: response("There is no such object", "KeyNotFound")}
_WRITTEN: Responses = {200: response("Replaced or changed", "Written"), 201: response("Created", "Written")}
_RESPONSES: dict[str, Responses] = {
    "list_all": {200: response("All that passed the filters", "List")},
    "put_by_body": {**_WRITTEN, **_UNLIKE},
    "post": {**_WRITTEN, **_UNLIKE},
    "get": {200: response("The object", "Entry"), **_ABSENT},
    "put": {**_WRITTEN, **_UNLIKE},
    "patch": {200: _WRITTEN[200], **_ABSENT, **_UNLIKE},
    "patch_at": {200: _WRITTEN[200], **_ABSENT, **_UNLIKE},
    "delete": {200: response("Deleted", "Deleted"), **_ABSENT, **_UNLIKE},
}


def operation(resource: Resource, verb: Verb, handler: str, path_names: Sequence[str]) -> dict[str, Any]:
    """What `add_api_route` is told about a handler of `ResourceRoutes`; `path_names` are those that no signature has."""
    singular = resource.singular.replace("_", " ")
    words = {"plural": resource.kind.replace("_", " "), "singular": singular, "a": "an" if singular[0] in "aeiou" else "a"}
    responses = {**_RESPONSES[handler], **FAILURES}
    if resource.kind in IN_TWO_PARTS and 404 not in responses:
        responses[404] = response("There is no such owner", "Error")
    # FastAPI describes 200 by itself when nobody else does.
    success = min(int(status) for status in responses)
    extra = _request_body(resource, handler) if verb in ("PUT", "POST", "PATCH") else {}
    return {
        "summary": _SUMMARIES[handler].format(**words),
        "operation_id": f"{handler}_{resource.singular}",
        "status_code": success,
        "responses": responses,
        "openapi_extra": {**extra, "parameters": [in_path(name) for name in path_names]},
    }


def in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _request_body(resource: Resource, handler: str) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": REFERENCE.format(model=resource.model.__name__)}}
    content["example"] = EXAMPLES[resource.kind]
    if handler == "patch":
        content = {"schema": {"type": "object"}, "example": {"desc": "what it is for"}}
    elif handler == "patch_at":
        content = {"schema": {}, "example": "what it is for"}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


class DescribedApp(FastAPI):
    """A FastAPI application whose OpenAPI document has the bodies of shared/schema; built once."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            built = get_openapi(title=self.title, version=self.version, description=self.description, routes=self.routes)
            schemas = built.setdefault("components", {}).setdefault("schemas", {})
            for operation_ in (operation_ for verbs in built["paths"].values() for operation_ in verbs.values()):
                _correct(operation_)
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            schemas.update(_models(), **_SHAPES, **SHAPES)
            self.openapi_schema = built
        return self.openapi_schema


def _correct(described: dict[str, Any]) -> None:
    """FastAPI announces a 422 that our own validation never answers, and null for a parameter that may be absent."""
    described["responses"].pop("422", None)
    for parameter in described.get("parameters", ()):
        parameter["schema"] = {"type": "string"}
    describe_waiting(described)


def _models() -> dict[str, Any]:
    described: list[type[BaseModel]] = [TransactionSpec, *(resource.model for resource in RESOURCES.values())]
    models: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in described]
    _, definitions = models_json_schema(models, ref_template=REFERENCE, schema_generator=AbsentNotNull)
    found: dict[str, Any] = definitions["$defs"]
    return found
