"""JSON Schemas of operators, against what clients send.

The law: a schema is compiled once and fetches nothing; its expressions take linear time. What is said of a document tells its
place and what was expected there, never a value of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

_LINEAR = jsonschema_rs.RegexOptions()
# Of what is said about a document whose members a client has named.
_WORDS = 512
# Keywords whose schemas are about the same document.
_SAME = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_BY_NAME = ("properties", "dependencies", "dependentRequired", "dependentSchemas")


class JsonSchema:
    """As in draft 7, which APISIX has, unless the schema names another one. Raises ValueError for what is none."""

    __slots__ = ("_validator",)

    def __init__(self, schema: Mapping[str, Any]) -> None:
        make: Any = jsonschema_rs.validator_for if "$schema" in schema else jsonschema_rs.Draft7Validator
        try:
            self._validator = make(dict(schema), pattern_options=_LINEAR, mask="value", offline=True)
        except jsonschema_rs.ValidationError as error:
            raise ValueError(f"not a JSON Schema that can be used: {_at(error.instance_path)}{error.message}") from None

    def problem(self, document: object) -> str | None:
        """The first thing that is wrong with it."""
        try:
            error = next(iter(self._validator.iter_errors(document)), None)
        except ValueError:
            return "the document is nested too deeply"
        if error is None:
            return None
        kind = error.kind
        missing = kind.name == "required"
        words = f'property "{kind.property}" is required' if missing else error.message
        return (_at(error.instance_path) + words)[:_WORDS]


def _at(path: list[str | int]) -> str:
    return "".join(f'property "{step}" validation failed: ' for step in path)


def lower_case(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with the names of an object's properties in lower case, as field names are compared."""
    lowered: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _BY_NAME and isinstance(value, Mapping):
            lowered[keyword] = {name.lower(): _names(each) for name, each in value.items()}
        elif keyword == "required":
            lowered[keyword] = _names(value)
        elif keyword in _SAME and isinstance(value, Mapping):
            lowered[keyword] = lower_case(value)
        elif keyword in _SAME and isinstance(value, list):
            lowered[keyword] = [lower_case(each) if isinstance(each, Mapping) else each for each in value]
        else:
            lowered[keyword] = value
    return lowered


def _names(value: object) -> object:
    return [name.lower() if isinstance(name, str) else name for name in value] if isinstance(value, list) else value
