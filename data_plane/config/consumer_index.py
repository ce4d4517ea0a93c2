"""Which consumer a key belongs to, for each plugin that tells consumers.

The law: a change of one consumer changes its own entries and nothing else. A key that two of them name belongs to the first by
name and credential, on every worker the same (the Admin API refuses a second one, but writers race).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.plugin.consumer import Consumer


class Table:
    """Of one plugin; `get` has whose key it is, `named` who is called so. `_rivals` are all that name a key, where there are
    several."""

    __slots__ = ("_consumers", "_rivals", "get", "named")

    def __init__(self, names: Mapping[str, Consumer]) -> None:
        self._consumers: dict[str, Consumer] = {}
        self._rivals: dict[str, list[Consumer]] = {}
        # The dict's own: every request asks.
        self.get: Callable[[str], Consumer | None] = self._consumers.get
        self.named: Callable[[str], Consumer | None] = names.get

    def add(self, key: str, consumer: Consumer) -> None:
        holder = self._consumers.setdefault(key, consumer)
        if holder is not consumer:
            self._settle(key, [*self._rivals.get(key, [holder]), consumer])

    def remove(self, key: str, consumer: Consumer) -> None:
        rivals = self._rivals.pop(key, None)
        if rivals is not None:
            self._settle(key, [rival for rival in rivals if rival is not consumer])
        elif self._consumers.get(key) is consumer:
            del self._consumers[key]

    def _settle(self, key: str, rivals: list[Consumer]) -> None:
        rivals.sort(key=lambda rival: (rival.username, rival.credential_id or ""))
        self._consumers[key] = rivals[0]
        if len(rivals) > 1:
            self._rivals[key] = rivals


class ConsumerIndex:
    """The tables of all plugins. `names` has every consumer without what it authenticates itself with."""

    __slots__ = ("_tables", "names")

    def __init__(self) -> None:
        self.names: dict[str, Consumer] = {}
        self._tables: dict[str, Table] = {}

    def table(self, plugin: str) -> Table:
        """Always the same one for a plugin."""
        table = self._tables.get(plugin)
        if table is None:
            table = self._tables[plugin] = Table(self.names)
        return table
