"""How a refused document is described: one `Problem` per mistake, with its JSON path and APISIX's vocabulary.

The law: a message says what was expected and what came, and never more than `SHOWN` mistakes at once; the path is that
of the document as its author wrote it (items count from 0 in the path, from 1 in the text, as in APISIX).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# Ten mistakes are enough to work on; a list of 100,000 bad nodes must not become a 10 MiB answer.
SHOWN = 10
# Longest excerpt of a refused value in a message.
EXCERPT = 80

# Names of union branches, which pydantic puts into the location and no document contains.
TAGS = frozenset({"#array", "#object", "#string"})
# Marks an object's key, not its value, as the culprit.
KEY_MARK = "[key]"
# Where in a value that pydantic sees as one the culprit stands: a key of an error's context.
INSIDE = "inside"

Location = tuple[str | int, ...]
# The property names that an object at a location may have.
Known = Callable[[Location], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `path` as in `$.upstream.nodes[0].weight`, `text` as APISIX words it."""

    path: str
    text: str


class SchemaError(ValueError):
    """A document that does not fit its schema."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        text = "; ".join(problem.text for problem in problems)
        of_plugin = problems[0].path.startswith(("$.plugins.", "$.plugins["))
        super().__init__(text if of_plugin else f"invalid configuration: {text}")
        self.problems = problems


def json_type(value: object) -> str:
    """The JSON name of a decoded value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


def excerpt(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= EXCERPT else text[:EXCERPT] + "..."


def from_validation(error: ValidationError, known: Known) -> SchemaError:
    """`known` names the properties that an object at a location may have, for `did you mean`."""
    details = error.errors(include_url=False)
    problems = [_problem(detail, known) for detail in details[:SHOWN]]
    if len(details) > SHOWN:
        problems.append(Problem("$", f"and {len(details) - SHOWN} more"))
    return SchemaError(tuple(problems))


def _problem(detail: ErrorDetails, known: Known) -> Problem:
    location = tuple(part for part in detail["loc"] if part not in TAGS)
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    location += context.get(INSIDE, ())
    if kind == "missing":
        return _at(location[:-1], f'property "{location[-1]}" is required')
    if kind == "extra_forbidden":
        return _at(location[:-1], _forbidden(str(location[-1]), known(location[:-1])))
    if location and location[-1] == KEY_MARK:
        location = location[:-2]
        return _at(location, f"invalid property name {excerpt(given)}: {_inner(kind, given, context, detail['msg'])}")
    return _at(location, _inner(kind, given, context, detail["msg"]))


def _forbidden(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f', did you mean "{near[0]}"?' if near else ""
    return f"additional properties forbidden, found {name}{hint}"


_WRONG_TYPES = {
    "string_type": "string",
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "tuple_type": "array",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "array_or_object": "array or object",
    "string_or_object": "string or object",
}

_WORDS: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "string_too_short": lambda v, c: f"string too short, expected at least {c['min_length']}, got {len(v)}",
    "string_too_long": lambda v, c: f"string too long, expected at most {c['max_length']}, got {len(v)}",
    "string_pattern_mismatch": lambda v, c: f'failed to match pattern "{c["pattern"]}" with {excerpt(v)}',
    "greater_than": lambda v, c: f"expected {v} to be greater than {c['gt']:g}",
    "greater_than_equal": lambda v, c: f"expected {v} to be at least {c['ge']}",
    "less_than_equal": lambda v, c: f"expected {v} to be at most {c['le']}",
    "literal_error": lambda v, c: f"matches none of the enum values: expected {c['expected']}, got {excerpt(v)}",
}


def _inner(kind: str, given: object, context: Mapping[str, Any], fallback: str) -> str:
    if kind in _WRONG_TYPES:
        return f"wrong type: expected {_WRONG_TYPES[kind]}, got {json_type(given)}"
    if kind in _WORDS:
        return _WORDS[kind](given, context)
    if kind in {"too_short", "too_long"}:
        return _size(kind, given, context)
    return fallback


def _size(kind: str, given: object, context: Mapping[str, Any]) -> str:
    if isinstance(given, str):
        return _WORDS[f"string_{kind}"](given, context)
    what, unit = ("object", "properties") if json_type(given) == "object" else ("array", "items")
    least = kind == "too_short"
    return f"expect {what} to have at {'least' if least else 'most'} {context['min_length' if least else 'max_length']} {unit}"


def _at(location: Location, text: str) -> Problem:
    return Problem(json_path(location), _nested(location, text))


def json_path(location: Location) -> str:
    parts = []
    for part in location:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if part.replace("_", "a").isalnum() else f"[{json.dumps(part)}]")
    return "$" + "".join(parts)


def _nested(location: Location, text: str) -> str:
    if len(location) >= 2 and location[0] == "plugins":
        text = _nested_plain(location[2:], text)
        return f"failed to check the configuration of plugin {location[1]} err: {text}"
    return _nested_plain(location, text)


def _nested_plain(location: Location, text: str) -> str:
    for part in reversed(location):
        if isinstance(part, int):
            text = f"failed to validate item {part + 1}: {text}"
        else:
            text = f'property "{part}" validation failed: {text}'
    return text
