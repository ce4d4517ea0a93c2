"""Types of which plugins' configurations are made, with what each refuses.

The law: what passes here can be used without another look when a request comes; the reason of a refusal stands at the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.expression.addresses import parse_network
from shared.plugin.head import name_problem
from shared.plugin.template import compile_template
from shared.regex import compile_regex
from shared.schema.common import SomeUnique, Spec

T = TypeVar("T")


def refused(text: str) -> PydanticCustomError:
    return PydanticCustomError("plugin", "{text}", {"text": text})


def _checked(check: Callable[[T], object]) -> AfterValidator:
    def validate(value: T) -> T:
        try:
            check(value)
        except ValueError as error:
            raise refused(str(error)) from None
        return value

    return AfterValidator(validate)


def _header_name(name: str) -> None:
    problem = name_problem(name)
    if problem is not None:
        raise ValueError(f"{name!r} cannot be set: {problem}" if problem.startswith("the") else f"{problem}: {name!r}")


def _no_control(value: str) -> None:
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise ValueError("expected no control characters in a header's value")


def _number_as_text(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else str(value) if type(value) is int else value


def split_line(line: str) -> tuple[str, str]:
    """Raises ValueError."""
    name, colon, value = line.partition(":")
    if not colon or not value.strip():
        raise ValueError(f'expected "name: value", got {line[:80]!r}')
    _header_name(name.strip())
    _no_control(value)
    compile_template(value)
    return name.strip(), value.strip()


def _http_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        named = False
    if not named or not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        raise ValueError(f"expected a URL as in https://host:port/path, got {url.rpartition('@')[2][:80]!r}")


HttpUrl = Annotated[str, Field(max_length=2048), _checked(_http_url)]
HeaderName = Annotated[str, Field(min_length=1, max_length=256), _checked(_header_name)]
# APISIX takes numbers as well.
HeaderValue = Annotated[
    str,
    BeforeValidator(_number_as_text),
    _checked(_no_control),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]}),
]
# With `$variables`.
Template = Annotated[str, _checked(compile_template)]
HeaderTemplate = Annotated[HeaderValue, _checked(compile_template)]
HeaderLine = Annotated[str, _checked(lambda line: split_line(line))]
Regex = Annotated[str, Field(min_length=1, max_length=4096), _checked(compile_regex)]
Address = Annotated[str, _checked(parse_network)]
Addresses = SomeUnique[Address]
Status = Annotated[int, Field(ge=200, le=599)]
Percentage = Annotated[int, Field(ge=0, le=100)]
Message = Annotated[str, Field(min_length=1, max_length=1024)]


def one_of(spec: Spec, *names: str) -> None:
    """Exactly one of the fields is given; raises PydanticCustomError in APISIX's words."""
    given = [name for name in names if getattr(spec, name) is not None]
    if len(given) != 1:
        found = "none" if not given else "both " + " and ".join(given)
        raise refused(f"value should match only one schema, but matches {found}: expected one of {', '.join(names)}")


def at_least_one_of(spec: Spec, *names: str) -> None:
    if all(getattr(spec, name) is None for name in names):
        raise refused(f"object matches none of the required: expected one of {', '.join(names)} at least")


class ResponseHeaderChanges(Spec):
    """`add` has lines, so that a name can come more than once."""

    add: Annotated[tuple[HeaderLine, ...], Field(strict=False)] = ()
    set: dict[HeaderName, HeaderTemplate] = Field(default_factory=dict)
    remove: Annotated[tuple[HeaderName, ...], Field(strict=False)] = ()


class RequestHeaderChanges(Spec):
    add: dict[HeaderName, HeaderTemplate] = Field(default_factory=dict)
    set: dict[HeaderName, HeaderTemplate] = Field(default_factory=dict)
    remove: Annotated[tuple[HeaderName, ...], Field(strict=False)] = ()


def header_changes(value: object) -> object:
    """The older form, `{name: value}`, is that of `set`. Raises PydanticCustomError."""
    if not isinstance(value, dict):
        return value
    if not value:
        raise refused("expect object to have at least 1 properties")
    return value if {"add", "set", "remove"} & value.keys() else {"set": value}
