"""What changes between two documents, pure.

The law: each change stands under its JSON path with what was there and what comes; a list of other length or order is one
change, objects are compared property by property.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.schema.errors import json_path

Location = tuple[str | int, ...]


class _Absent:
    """No value, which is not null."""

    __slots__ = ()


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """`before` or `after` is ABSENT where there is nothing."""

    path: str
    before: object
    after: object

    def document(self) -> dict[str, object]:
        sides = {"before": self.before, "after": self.after}
        return {"path": self.path, **{name: value for name, value in sides.items() if value is not ABSENT}}


def differences(before: object, after: object) -> list[Difference]:
    return list(_walk((), before, after))


def _walk(location: Location, before: object, after: object) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _walk((*location, name), before.get(name, ABSENT), after.get(name, ABSENT))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _walk((*location, number), old, new)
    elif not same(before, after):
        yield Difference(json_path(location), before, after)


def same(one: object, other: object) -> bool:
    """Equal as JSON: unlike in Python, true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
