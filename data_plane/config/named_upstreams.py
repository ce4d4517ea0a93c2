"""Upstreams as plugins name them in their calls: by id, else by the name that the resource has.

The law: an upstream is compiled when a plugin first asks for it, and is then the one that routes use too, with one balancer.
Of several with one name, that with the smallest id counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from data_plane.config.snapshot import Upstream
from data_plane.config.tables import Tables
from data_plane.config.upstreams import UpstreamTable
from shared.schema.upstream import UpstreamSpec


class NamedUpstreams:
    __slots__ = ("_ids", "_names", "_table", "_tables")

    def __init__(self, tables: Tables, table: UpstreamTable) -> None:
        self._tables = tables
        self._table = table
        self._names: dict[str, str] = {}
        self._ids: dict[str, set[str]] = {}

    def update(self, ids: Iterable[str]) -> None:
        """These upstreams were written or deleted."""
        for upstream_id in ids:
            spec = self._spec(upstream_id)
            before, name = self._names.pop(upstream_id, None), None if spec is None else spec.name
            if before is not None:
                self._ids[before].discard(upstream_id)
                if not self._ids[before]:
                    del self._ids[before]
            if name:
                self._names[upstream_id] = name
                self._ids.setdefault(name, set()).add(upstream_id)

    def find(self, name: str) -> Upstream | None:
        """None also when no node of it may take traffic."""
        upstream_id = name
        spec = self._spec(name)
        if spec is None and name in self._ids:
            upstream_id = min(self._ids[name])
            spec = self._spec(upstream_id)
        return None if spec is None else self._table.compile(f"upstream/{upstream_id}", spec)

    def _spec(self, upstream_id: str) -> UpstreamSpec | None:
        return self._tables.get(UpstreamSpec, "upstreams", upstream_id)
