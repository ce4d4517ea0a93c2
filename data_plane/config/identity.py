"""Keeping an object that a change did not change.

The law: what hangs on an object (a PluginContext, a balancer's counters, a connection pool) stays as long as the
configuration says the same; so a freshly compiled object is dropped for the one in use when all of their fields are
equal. Objects inside are compared by identity where their class says so (`eq=False`), because they went through here
before.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TypeVar

T = TypeVar("T")


_FIELDS: dict[type[object], Callable[[object], object]] = {}


def kept(in_use: T | None, fresh: T) -> T:
    """`in_use` when `fresh`, a slotted dataclass, says nothing else; `fresh` otherwise."""
    if in_use is None:
        return fresh
    cls: type[object] = type(fresh)
    fields = _FIELDS.get(cls)
    if fields is None:
        fields = _FIELDS[cls] = attrgetter(*cls.__slots__)  # type: ignore[attr-defined]  # a slotted dataclass has them
    return in_use if fields(in_use) == fields(fresh) else fresh
