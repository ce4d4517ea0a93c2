"""From a request to its route: host first, then path.

The law: the table of the exact host is asked first, then the tables of wildcard hosts from the longest suffix to the
shortest, then the routes without a host; the first table in which a route matches decides, so `*.foo.com /x` beats a
host-less exact `/x`. `*.foo.com` takes a.foo.com and a.b.foo.com but not foo.com; `*foo.com` takes foo.com and xfoo.com
too.

A router never changes; `changed` makes the next one and rebuilds only the host tables that a change touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from data_plane.routing.path_table import Addition, Candidate, PathTable, Removal
from shared.host_pattern import HostPattern
from shared.path_pattern import PathPattern

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request must be to take a route. No hosts: any host. No methods (None): any method."""

    hosts: tuple[HostPattern, ...]
    paths: tuple[PathPattern, ...]
    methods: frozenset[bytes] | None
    priority: int


@dataclass(frozen=True, slots=True)
class RouteEntry(Generic[T]):
    """A route as the router holds it. `id` is unique and breaks ties in its order."""

    id: str
    conditions: Conditions
    target: T


class Router(Generic[T]):
    """Immutable. `host` is in lower case and without port, `path` normalised and without query."""

    __slots__ = ("_any_host", "_hosts", "_suffix_lengths", "_suffixes")

    def __init__(
        self,
        hosts: dict[bytes, PathTable[T]] | None = None,
        suffixes: dict[bytes, PathTable[T]] | None = None,
        any_host: PathTable[T] | None = None,
    ) -> None:
        self._hosts = hosts or {}
        self._suffixes = suffixes or {}
        self._suffix_lengths = tuple(sorted({len(suffix) for suffix in self._suffixes}, reverse=True))
        self._any_host: PathTable[T] = any_host or PathTable()

    def match(self, method: bytes, host: bytes, path: bytes) -> T | None:
        if self._hosts:
            table = self._hosts.get(host)
            if table is not None:
                found = table.match(method, path)
                if found is not None:
                    return found
        if self._suffix_lengths:
            found = self._match_wildcard(method, host, path)
            if found is not None:
                return found
        return self._any_host.match(method, path)

    def _match_wildcard(self, method: bytes, host: bytes, path: bytes) -> T | None:
        size = len(host)
        for length in self._suffix_lengths:
            if length <= size:
                table = self._suffixes.get(host[size - length :])
                if table is not None:
                    found = table.match(method, path)
                    if found is not None:
                        return found
        return None

    def changed(self, removed: Iterable[RouteEntry[T]], added: Iterable[RouteEntry[T]]) -> Router[T]:
        """The router without `removed` and with `added`; a route whose entry changed is in both."""
        leaving: dict[HostPattern | None, list[Removal]] = defaultdict(list)
        coming: dict[HostPattern | None, list[Addition[T]]] = defaultdict(list)
        for entry in removed:
            removals = [(path, entry.id) for path in entry.conditions.paths]
            for host in entry.conditions.hosts or (None,):
                leaving[host].extend(removals)
        for entry in added:
            additions = [(path, _candidate(entry, path)) for path in entry.conditions.paths]
            for host in entry.conditions.hosts or (None,):
                coming[host].extend(additions)
        hosts, suffixes, any_host = self._hosts, self._suffixes, self._any_host
        for host in leaving.keys() | coming.keys():
            edits = leaving.get(host, ()), coming.get(host, ())
            if host is None:
                any_host = any_host.changed(*edits)
            elif host.wildcard:
                suffixes = dict(suffixes) if suffixes is self._suffixes else suffixes
                _edit_host(suffixes, host.name, *edits)
            else:
                hosts = dict(hosts) if hosts is self._hosts else hosts
                _edit_host(hosts, host.name, *edits)
        return Router(hosts, suffixes, any_host)


def _candidate(entry: RouteEntry[T], path: PathPattern) -> Candidate[T]:
    conditions = entry.conditions
    rank = (-conditions.priority, -path.literal_bytes, -len(path.text), entry.id)
    return Candidate(rank, entry.id, conditions.methods, entry.target)


def _edit_host(
    tables: dict[bytes, PathTable[T]], name: bytes, removed: Iterable[Removal], added: Iterable[Addition[T]]
) -> None:
    table = tables.get(name, PathTable[T]()).changed(removed, added)
    if table:
        tables[name] = table
    else:
        tables.pop(name, None)
