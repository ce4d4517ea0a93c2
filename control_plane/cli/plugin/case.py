"""The description of what `waspgate plugin run` sends to a plugin, in TOML or JSON.

The law: one document, the same keys in both notations; a mistake in it is named with its file and its place.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.cli.errors import USAGE, CommandError

Pairs = dict[str, str] | list[tuple[str, str]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(_Part):
    headers: Pairs = Field(default_factory=dict)
    body: str = ""
    chunks: list[str] = Field(default_factory=list)
    trailers: Pairs = Field(default_factory=dict)


class Answer(Message):
    """What the upstream answers."""

    status: Annotated[int, Field(ge=200, le=599)] = 200


class CallAnswer(Message):
    """What is answered to calls of the plugin to this upstream; with `fails` there is no response."""

    upstream: str
    status: Annotated[int, Field(ge=200, le=599)] = 200
    fails: bool = False


class RequestStep(Message):
    """`ticks`: so often the plugin's timer fires after the request was sent."""

    method: str = "GET"
    path: str = "/"
    authority: str = "example.com"
    response: Answer = Answer()
    ticks: Annotated[int, Field(ge=0, le=1000)] = 0


class Case(_Part):
    """`configuration` as in a route: a text, or an object that the plugin gets as JSON."""

    name: str = "plugin"
    configuration: str | dict[str, Any] = ""
    vm_configuration: str = ""
    environment: dict[str, str] = Field(default_factory=dict)
    dialect: Literal["proxy-wasm", "apisix"] = "proxy-wasm"
    requests: Annotated[list[RequestStep], Field(min_length=1)]
    calls: list[CallAnswer] = Field(default_factory=list)


def read_case(path: Path) -> Case:
    """Raises CommandError."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8: {error}", USAGE) from error
    except json.JSONDecodeError as error:
        raise CommandError(f"{path} is not JSON: {error}", USAGE) from error
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{path} is not TOML: {error}", USAGE) from error
    try:
        return Case.model_validate(document)
    except ValidationError as error:
        raise CommandError("; ".join(f"{path}: {problem}" for problem in _problems(error)), USAGE) from error


def _problems(error: ValidationError) -> list[str]:
    problems = list[str]()
    for problem in error.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("dict[", "list[")))
        message = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{place or 'the document'}: {message[:1].lower()}{message[1:]}")
    return problems


def described_case(requests: list[str], headers: list[str], data: str) -> Case:
    """From options: `METHOD PATH` each, with the same fields and body for all. Raises CommandError."""
    fields = [_field(header) for header in headers]
    return Case(requests=[_request(request, fields, data) for request in requests])


def _request(text: str, fields: list[tuple[str, str]], data: str) -> RequestStep:
    method, blank, path = text.strip().partition(" ")
    if not blank or not method.isupper() or not path.strip().startswith("/"):
        raise CommandError(f"--request: expected a file or METHOD /PATH, got {text!r}", USAGE)
    return RequestStep(method=method, path=path.strip(), headers=fields, body=data)


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"--header: expected NAME: VALUE, got {text!r}", USAGE)
    return name.strip(), value.strip()
