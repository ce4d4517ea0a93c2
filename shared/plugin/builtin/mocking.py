"""mocking: an answer in the place of an upstream that is not there yet.

The law: the answer is the example, word for word but for its variables, or one made by the schema, anew for each request.
"""

from __future__ import annotations

import asyncio
import json
import random
import string
from typing import Annotated, Any, Self
from xml.sax.saxutils import escape

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.fields import HeaderName, HeaderValue, Status, Template, at_least_one_of, refused
from shared.plugin.plugin import Answer, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.template import compile_template
from shared.schema.common import Maybe, Spec

_TYPES = ("object", "array", "string", "number", "integer", "boolean")
_CONTENT_TYPES = ("application/json", "application/xml", "text/xml", "text/plain", "text/html")
# Of a schema that a person wrote.
_DEPTH = 16


def _schema(value: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    kind = value.get("type", "object")
    if depth > _DEPTH:
        raise refused(f"nested deeper than {_DEPTH} levels")
    if kind not in _TYPES:
        raise refused(f"unknown type {json.dumps(kind)[:40]}, expected one of {', '.join(_TYPES)}")
    properties = value.get("properties", {})
    for inner in [*(properties.values() if isinstance(properties, dict) else [properties]), value.get("items", {})]:
        if not isinstance(inner, dict):
            raise refused(f"wrong type: expected a schema, got {json.dumps(inner)[:40]}")
        if inner:
            _schema(inner, depth + 1)
    return value


def _content_type(value: str) -> str:
    if value.partition(";")[0].strip().lower() not in _CONTENT_TYPES:
        raise refused(f"unsupported content type!, only support {', '.join(_CONTENT_TYPES)}")
    return value


class MockingConfig(Spec):
    response_status: Status = 200
    delay: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0
    content_type: Annotated[HeaderValue, AfterValidator(_content_type)] = "application/json;charset=utf8"
    response_example: Maybe[Template] = None
    response_schema: Maybe[Annotated[dict[str, Any], AfterValidator(_schema)]] = None
    with_mock_header: bool = True
    response_headers: Maybe[Annotated[dict[HeaderName, HeaderValue], Field(min_length=1)]] = None

    @model_validator(mode="after")
    def _an_answer(self) -> Self:
        at_least_one_of(self, "response_example", "response_schema")
        return self


class Mocking(Plugin[MockingConfig]):
    name = "mocking"
    priority = 10900
    Config = MockingConfig
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, config: MockingConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._example = None if config.response_example is None else compile_template(config.response_example)
        self._is_xml = config.content_type.partition(";")[0].strip().lower().endswith("/xml")
        headers = {"Content-Type": config.content_type}
        if config.with_mock_header:
            headers["x-mock-by"] = "waspgate"
        self._headers = tuple({**headers, **(config.response_headers or {})}.items())

    def access(self, request: Request) -> Answer:
        return self._later(request) if self.config.delay else self._reply(request)

    async def _later(self, request: Request) -> Reply:
        await self.sleep(self.config.delay)
        return self._reply(request)

    def _reply(self, request: Request) -> Reply:
        return Reply(self.config.response_status, self._text(request), self._headers)

    def _text(self, request: Request) -> str:
        if self._example is not None:
            return self._example.render(request)
        value = made_of(self.config.response_schema or {})
        return f"<data>{_xml(value)}</data>" if self._is_xml else json.dumps(value, ensure_ascii=False)


def made_of(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the schema says
    if "example" in schema:
        return schema["example"]
    match schema.get("type", "object"):
        case "object":
            return {name: made_of(inner) for name, inner in schema.get("properties", {}).items()}
        case "array":
            return [made_of(schema.get("items") or {"type": "string"}) for _ in range(random.randint(1, 3))]
        case "string":
            return "".join(random.choices(string.ascii_letters, k=random.randint(1, 10)))
        case "integer":
            return random.randint(0, 10000)
        case "number":
            return round(random.uniform(0, 10000), 4)
        case _:
            return random.random() < 0.5


def _xml(value: object) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(inner)}</{name}>" for name, inner in value.items())
    if isinstance(value, list):
        return "".join(f"<item>{_xml(inner)}</item>" for inner in value)
    return escape(value if isinstance(value, str) else json.dumps(value))
