"""From a request to its route: host first, then path.

The law: the table of the exact host is asked first, then the tables of wildcard hosts from the longest suffix to the
shortest, then the routes without a host; the first table in which a route matches decides, so `*.foo.com /x` beats a
host-less exact `/x`. `*.foo.com` takes a.foo.com and a.b.foo.com but not foo.com; `*foo.com` takes foo.com and xfoo.com
too.

Routes that ask for more than that are found in two steps, see path_table.py.

A router never changes; `change` makes the next one and rebuilds only the host tables that a change touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from data_plane.routing.path_table import Addition, Candidate, PathTable, Removal, RequiringCandidate
from data_plane.routing.requirement import Requirement
from data_plane.routing.steps import Steps
from shared.expression.request import RequestVariables
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
    requirement: Requirement | None = None


@dataclass(frozen=True, slots=True)
class RouteEntry(Generic[T]):
    """A route as the router holds it. `id` is unique and breaks ties in its order."""

    id: str
    conditions: Conditions
    target: T


class Router(Generic[T]):
    """Immutable. `host` is in lower case and without port, `path` normalised and without query."""

    __slots__ = ("_any_host", "_by_requirement", "_hosts", "_suffix_lengths", "_suffixes")

    def __init__(
        self,
        hosts: dict[bytes, PathTable[T]] | None = None,
        suffixes: dict[bytes, PathTable[T]] | None = None,
        any_host: PathTable[T] | None = None,
        *,
        by_requirement: T,
    ) -> None:
        """`by_requirement` is what `match` answers when more of the request decides: then `choose` has the route."""
        self._by_requirement = by_requirement
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

    def choose(self, request: RequestVariables) -> T | None:
        """The route when `match` has answered `by_requirement`. Raises BodyNeeded."""
        for table in self._tables(request.host):
            found = table.choose(request)
            if found is not None:
                return found
        return None

    def _tables(self, host: bytes) -> Iterator[PathTable[T]]:
        """Those that a host is looked up in, in this order."""
        if host in self._hosts:
            yield self._hosts[host]
        for length in self._suffix_lengths:
            suffix = host[len(host) - length :] if length <= len(host) else None
            if suffix is not None and suffix in self._suffixes:
                yield self._suffixes[suffix]
        yield self._any_host

    def change(
        self, removed: Iterable[RouteEntry[T]], added: Iterable[RouteEntry[T]], dropped: list[object] | None = None
    ) -> Steps[Router[T]]:
        """In steps, the router without `removed` and with `added`; a route whose entry changed is in both."""
        edits: dict[HostPattern | None, tuple[list[Removal], list[Addition[T]]]] = defaultdict(lambda: ([], []))
        for entry in removed:
            removals = [(path, entry.id) for path in entry.conditions.paths]
            for host in entry.conditions.hosts or (None,):
                edits[host][0].extend(removals)
            yield
        for entry in added:
            additions = [(path, self._candidate(entry, path)) for path in entry.conditions.paths]
            for host in entry.conditions.hosts or (None,):
                edits[host][1].extend(additions)
            yield
        hosts, suffixes, any_host = self._hosts, self._suffixes, self._any_host
        gone: list[object] = [] if dropped is None else dropped
        for host, (leaving, coming) in edits.items():
            if host is None:
                any_host = yield from any_host.change(leaving, coming, gone)
            elif host.wildcard:
                suffixes = dict(suffixes) if suffixes is self._suffixes else suffixes
                yield from _edit_host(suffixes, host.name, leaving, coming, gone)
            else:
                hosts = dict(hosts) if hosts is self._hosts else hosts
                yield from _edit_host(hosts, host.name, leaving, coming, gone)
        return Router(hosts, suffixes, any_host, by_requirement=self._by_requirement)

    def _candidate(self, entry: RouteEntry[T], path: PathPattern) -> Candidate[T]:
        conditions = entry.conditions
        rank = (-conditions.priority, -path.literal_bytes, -len(path.text), entry.id)
        if conditions.requirement is None:
            return Candidate(rank, entry.id, conditions.methods, entry.target)
        return RequiringCandidate(
            rank, entry.id, conditions.methods, self._by_requirement, entry.target, conditions.requirement, path
        )


def _edit_host(
    tables: dict[bytes, PathTable[T]],
    name: bytes,
    removed: Iterable[Removal],
    added: Iterable[Addition[T]],
    dropped: list[object],
) -> Steps[None]:
    before = tables.get(name) or PathTable[T]()
    dropped.append(before)
    table = yield from before.change(removed, added, dropped)
    if table:
        tables[name] = table
    else:
        tables.pop(name, None)
