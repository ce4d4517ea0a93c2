"""Lists: filters, order and pages, pure.

The law: all filters hold at once, `total` counts what passed them, and pages are cut from the order of creation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from control_plane.errors import BadRequest
from shared.keys import Kind

MIN_PAGE_SIZE, MAX_PAGE_SIZE = 10, 500
# A longer pattern than any name can be is a mistake or an attack.
MAX_PATTERN = 256

# Which properties `filter=` compares exactly, per kind.
_TARGETS = frozenset({"service_id", "upstream_id"})
EXACT: dict[Kind, frozenset[str]] = {"routes": _TARGETS, "stream_routes": _TARGETS}


@dataclass(frozen=True, slots=True)
class Item:
    """One stored object. `value` is its decoded JSON, or its text when it is no JSON."""

    key: str
    value: Any
    created: int
    modified: int

    def envelope(self) -> dict[str, object]:
        return {
            "key": self.key,
            "value": self.value,
            "createdIndex": self.created,
            "modifiedIndex": self.modified,
        }

    def property(self, name: str) -> Any:  # noqa: ANN401 - a JSON value may be anything
        return self.value.get(name) if isinstance(self.value, dict) else None


@dataclass(frozen=True, slots=True)
class Query:
    """The query parameters of a list, as they came."""

    page: str | None = None
    page_size: str | None = None
    name: str | None = None
    label: str | None = None
    uri: str | None = None
    filter: str | None = None


def select(kind: Kind, items: Sequence[Item], query: Query) -> dict[str, object]:
    """The list envelope; raises BadRequest for a parameter that makes no sense."""
    tests = _tests(kind, query)
    window = _window(query)
    chosen = sorted((item for item in items if all(test(item) for test in tests)), key=lambda item: item.created)
    return {"total": len(chosen), "list": [item.envelope() for item in chosen[window]]}


def _tests(kind: Kind, query: Query) -> list[Callable[[Item], bool]]:
    tests: list[Callable[[Item], bool]] = []
    if query.name is not None:
        named = _pattern("name", query.name)
        tests.append(lambda item: _found(named, item.property("name")))
    if query.label is not None:
        label = query.label
        tests.append(lambda item: label in (item.property("labels") or {}))
    if query.uri is not None:
        located = _pattern("uri", query.uri)
        tests.append(lambda item: any(_found(located, uri) for uri in _uris(item)))
    if query.filter is not None:
        tests.extend(_exact(kind, query.filter))
    return tests


def _exact(kind: Kind, text: str) -> list[Callable[[Item], bool]]:
    """APISIX ignores fields that it does not filter by, and so do its clients."""
    return [_equals(name, value) for name, value in parse_qsl(text) if name in EXACT.get(kind, ())]


def _equals(name: str, value: str) -> Callable[[Item], bool]:
    return lambda item: str(item.property(name)) == value


def _uris(item: Item) -> list[object]:
    uris = item.property("uris")
    return [item.property("uri"), *(uris if isinstance(uris, list) else ())]


def _pattern(name: str, text: str) -> re.Pattern[str]:
    if len(text) > MAX_PATTERN:
        raise BadRequest(f"invalid argument {name}: expected at most {MAX_PATTERN} characters, got {len(text)}")
    try:
        return re.compile(text)
    except re.error as error:
        raise BadRequest(f"invalid argument {name}: not a regular expression: {error}") from error


def _found(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.search(value) is not None


def _window(query: Query) -> slice:
    if query.page is None or query.page_size is None:
        return slice(None)
    page, size = max(_number("page", query.page), 1), _number("page_size", query.page_size)
    if not MIN_PAGE_SIZE <= size <= MAX_PAGE_SIZE:
        raise BadRequest(f"page_size must be between {MIN_PAGE_SIZE} and {MAX_PAGE_SIZE}")
    return slice((page - 1) * size, page * size)


def _number(name: str, text: str) -> int:
    # Nine digits are more pages than any store has objects.
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise BadRequest(f"invalid argument {name}: should be a number")
    return int(text)
