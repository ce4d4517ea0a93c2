"""Which certificate belongs to a name: exact names before wildcards, wildcards before the one for every name.

The law: a wildcard stands for exactly one label. Of several objects with one name the first by id has it, so that all workers
agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from shared.server_name import EVERY_NAME, ServerNamePattern

T = TypeVar("T")


class ServerNames(Generic[T]):
    """Never changes once made."""

    __slots__ = ("_every", "_exact", "_wildcards")

    def __init__(self, entries: Iterable[tuple[Iterable[ServerNamePattern], T]] = ()) -> None:
        """In the order of ids."""
        self._exact: dict[bytes, T] = {}
        self._wildcards: dict[bytes, T] = {}
        self._every: T | None = None
        for patterns, target in entries:
            for pattern in patterns:
                if pattern == EVERY_NAME:
                    self._every = target if self._every is None else self._every
                else:
                    table = self._wildcards if pattern.wildcard else self._exact
                    table.setdefault(pattern.name, target)

    def match(self, name: bytes) -> T | None:
        """`name` in lower case without a final dot, empty when the client named none."""
        found = self._exact.get(name)
        if found is None:
            found = self._wildcards.get(name.partition(b".")[2]) if name else None
        return self._every if found is None else found
