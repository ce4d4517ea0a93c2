"""request-validation: only requests whose headers and body are as a JSON Schema says.

The law: what is checked is what the upstream reads. Field names are compared without regard to case; a member that comes
twice in a body is refused, since the upstream may take the other one. Headers are looked at in the rewrite phase, a body in the
access phase, when all who authenticate have had their say: nothing is held of a request that is refused for less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.body import WholeBody
from shared.plugin.fields import Status, at_least_one_of, refused
from shared.plugin.json_schema import JsonSchema, lower_case
from shared.plugin.plugin import Phase, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Maybe, Spec

# Reading the JSON of a mebibyte takes some milliseconds, in which the worker does nothing else.
_USUAL_BODY = 1024 * 1024
_LARGEST_BODY = 64 * 1024 * 1024
_FORM = "application/x-www-form-urlencoded"
# More fields than forms of people have.
_FIELDS = 1000


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    try:
        JsonSchema(schema)
    except ValueError as error:
        raise refused(str(error)) from None
    return schema


Schema = Annotated[dict[str, Any], AfterValidator(_schema)]


class RequestValidationConfig(Spec):
    """`max_req_body_size` in bytes: a body that is longer cannot be checked, and is refused (413)."""

    header_schema: Maybe[Schema] = None
    body_schema: Maybe[Schema] = None
    rejected_code: Status = 400
    rejected_msg: Maybe[Annotated[str, Field(min_length=1, max_length=256)]] = None
    max_req_body_size: Annotated[int, Field(ge=1, le=_LARGEST_BODY)] = _USUAL_BODY

    @model_validator(mode="after")
    def _something(self) -> Self:
        at_least_one_of(self, "header_schema", "body_schema")
        return self


class RequestValidation(Plugin[RequestValidationConfig]):
    name = "request-validation"
    priority = 2800
    Config = RequestValidationConfig

    def __init__(self, config: RequestValidationConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._headers = None if config.header_schema is None else JsonSchema(lower_case(config.header_schema))
        self._body = None if config.body_schema is None else JsonSchema(config.body_schema)
        self._whole = WholeBody(config.max_req_body_size, self._checked)

    def phases(self) -> frozenset[Phase]:
        phases: tuple[tuple[JsonSchema | None, Phase], ...] = ((self._headers, "rewrite"), (self._body, "access"))
        return frozenset(phase for schema, phase in phases if schema is not None)

    def rewrite(self, request: Request) -> Reply | None:
        assert self._headers is not None
        problem = self._headers.problem(_fields(request))
        return None if problem is None else self._refusal(problem)

    def access(self, request: Request) -> WholeBody:
        return self._whole

    def _checked(self, request: Request, body: bytes) -> Reply | None:
        assert self._body is not None
        try:
            document = read_document(body, request.header("content-type") or "")
        except ValueError as error:
            return self._refusal(str(error))
        problem = self._body.problem(document)
        return None if problem is None else self._refusal(problem)

    def _refusal(self, problem: str) -> Reply:
        text = self.config.rejected_msg or problem
        return Reply(self.config.rejected_code, text, (("Content-Type", "text/plain; charset=utf-8"),))


def _fields(request: Request) -> dict[str, object]:
    """Names in lower case."""
    return _gathered((name.lower(), value) for name, value in request.headers())


def read_document(body: bytes, content_type: str) -> object:
    """A form's fields, or the JSON that a body is otherwise. Raises ValueError, whose message a client may read."""
    if not body:
        raise ValueError("the request has no body")
    if content_type.partition(";")[0].strip().lower() == _FORM:
        return _form(body)
    try:
        return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        known = isinstance(error, _Unread)
        raise ValueError(str(error) if known else "the body is no JSON that can be read") from None


class _Unread(ValueError):
    """Its message is ours."""


def _form(body: bytes) -> dict[str, object]:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise ValueError("the body is no form that can be read") from None
    return _gathered(pairs)


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """The values of a name that comes more than once are an array."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Unread("a member of the body's JSON comes twice")
    return members


def _no_constant(name: str) -> None:
    raise _Unread(f"{name} is no JSON")
