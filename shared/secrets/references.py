"""References: texts in a configuration that say where a secret is, instead of what it is.

    $env://NAME            the variable NAME of the data plane, or `/KEY` behind it for a member of the JSON object in it
    $secret://vault/ID/PATH/KEY    the member KEY of what the secret manager `vault/ID` has at PATH

The law: a whole text is a reference or it is none; what a reference means is known to workers only, so that what is shown and
stored everywhere else is the reference itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# In JSON every reference, and everything that is sealed, begins like this.
BEGINNING: Final = b'"$'
# Writers may escape a slash.
IN_JSON: Final = re.compile(rb'"\$(?:env|ENV|secret):\\?/\\?/')
SCHEMES: Final = ("$env://", "$ENV://", "$secret://")
_ENV: Final = re.compile(r"\$(?:env|ENV)://(?P<name>[^/\s]+)(?:/(?P<member>.+))?")
_SECRET: Final = re.compile(r"\$secret://(?P<manager>[^/\s]+)/(?P<id>[^/\s]+)/(?P<path>[^\s]+)/(?P<member>[^/\s]+)")


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    member: str | None


@dataclass(frozen=True, slots=True)
class Managed:
    """`manager` is the id of a `secrets` object: `vault/1`."""

    manager: str
    path: str
    member: str


def is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith(SCHEMES)


def has_references(value: object) -> bool:
    """Anywhere in a JSON value."""
    match value:
        case dict():
            return any(map(has_references, value.values()))
        case list() | tuple():
            return any(map(has_references, value))
        case _:
            return is_reference(value)


def parse_reference(text: str) -> Variable | Managed:
    """Raises ValueError with what was expected."""
    if text.startswith("$secret://"):
        match = _SECRET.fullmatch(text)
        if match is None or {".", "..", ""} & set(match["path"].split("/")):
            raise ValueError(f"expected $secret://vault/ID/PATH/KEY, got {text[:80]}")
        return Managed(f"{match['manager']}/{match['id']}", match["path"], match["member"])
    match = _ENV.fullmatch(text)
    if match is None:
        raise ValueError(f"expected $env://NAME or $env://NAME/KEY, got {text[:80]}")
    return Variable(match["name"], match["member"])


def map_texts(value: Any, path: str, change: Callable[[str, str], str]) -> Any:  # noqa: ANN401 - JSON
    """The JSON value with every text in it changed; what has none to change is the same object. `change` gets a text and its
    path, whose parts have a slash between them."""
    match value:
        case str():
            return change(value, path)
        case dict():
            mapped = {name: map_texts(inner, f"{path}/{name}" if path else name, change) for name, inner in value.items()}
            return mapped if any(mapped[name] is not inner for name, inner in value.items()) else value
        case list():
            items = [map_texts(inner, f"{path}/{number}", change) for number, inner in enumerate(value)]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        case _:
            return value
