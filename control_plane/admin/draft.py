"""The store as it will be when planned writes are made: what a check of several writes at once looks at.

The law: nothing is written here. Every key is looked at once, so that all who ask in one round are told the same; a planned
value has the mod_revision of what it replaces, which is what the transaction has to expect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from shared.store.contract import ConfigStore, Entry, Listing

# Lookups under way.
AT_ONCE = 16


class View(Protocol):
    """The reading half of a ConfigStore."""

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> Listing: ...


class Draft:
    __slots__ = ("_entries", "_listings", "_planned", "_store")

    def __init__(self, store: ConfigStore) -> None:
        self._store = store
        self._entries: dict[str, Entry | None] = {}
        self._listings: dict[str, Listing] = {}
        # None: deleted.
        self._planned: dict[str, Entry | None] = {}

    async def stored(self, key: str) -> Entry | None:
        """As it is now."""
        if key not in self._entries:
            self._entries[key] = await self._store.get(key)
        return self._entries[key]

    async def fetch(self, keys: Iterable[str]) -> None:
        """Looks many keys up at once: one after another each would be a way to the store and back."""
        waiting = iter([key for key in keys if key not in self._entries])

        async def some() -> None:
            for key in waiting:
                await self.stored(key)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())

    async def get(self, key: str) -> Entry | None:
        return self._planned[key] if key in self._planned else await self.stored(key)

    async def list(self, prefix: str) -> Listing:
        if prefix not in self._listings:
            self._listings[prefix] = await self._store.list(prefix)
        base = self._listings[prefix]
        changed = {key: entry for key, entry in self._planned.items() if key.startswith(prefix)}
        if not changed:
            return base
        entries = {entry.key: entry for entry in base.entries} | changed
        return Listing(base.revision, tuple(entry for entry in entries.values() if entry is not None))

    def know(self, entry: Entry) -> None:
        """What a listing has shown need not be asked for."""
        self._entries.setdefault(entry.key, entry)

    def plan(self, key: str, value: bytes | None, replaces: Entry | None) -> None:
        """`value` None: a deletion."""
        created, modified = (replaces.create_revision, replaces.mod_revision) if replaces else (0, 0)
        self._planned[key] = None if value is None else Entry(key, value, created, modified)

    def is_planned(self, key: str) -> bool:
        return key in self._planned
