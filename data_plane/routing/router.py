"""From a request to its route: host first, then path.

The law: the table of the exact host is asked first, then the tables of wildcard hosts from the longest suffix to the
shortest, then the routes without a host; the first table in which a route matches decides, so `*.foo.com /x` beats a
host-less exact `/x`. `*.foo.com` takes a.foo.com and a.b.foo.com but not foo.com; `*foo.com` takes foo.com and xfoo.com
too.

Routes that ask for more than that are found in two steps, see path_table.py.

A worker has one router. A change is prepared beside it, in steps, and done at once: what a request asks, it asks between two
changes, and has its route then. To copy tables of 100,000 routes for each change would hold up requests for 20 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from data_plane.routing.dict_change import DictChange
from data_plane.routing.path_change import Addition, PathChange, Removal
from data_plane.routing.path_table import Candidate, PathTable, RequiringCandidate
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
    """`host` is in lower case and without port, `path` normalised and without query."""

    __slots__ = ("_any_host", "_by_requirement", "_hosts", "_suffix_lengths", "_suffixes")

    def __init__(self, by_requirement: T) -> None:
        """`by_requirement` is what `match` answers when more of the request decides: then `choose` has the route."""
        self._by_requirement = by_requirement
        self._hosts: dict[bytes, PathTable[T]] = {}
        self._suffixes: dict[bytes, PathTable[T]] = {}
        self._suffix_lengths: tuple[int, ...] = ()
        self._any_host = PathTable[T]()

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

    def prepare(
        self, removed: Iterable[RouteEntry[T]], added: Iterable[RouteEntry[T]], dropped: list[object] | None = None
    ) -> Steps[Callable[[], None]]:
        """In steps, what takes `removed` out and puts `added` in when it is called; a route whose entry changed is in both."""
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
        gone: list[object] = [] if dropped is None else dropped
        change = _RouterChange(self._hosts, self._suffixes, self._any_host, gone)
        for host, (leaving, coming) in edits.items():
            yield from change.edit(host, leaving, coming)
            gone += (leaving, coming)
        yield from change.prepare()

        def apply() -> None:
            self._hosts, self._suffixes = change.apply()
            if change.suffix_lengths is not None:
                self._suffix_lengths = change.suffix_lengths

        return apply

    def _candidate(self, entry: RouteEntry[T], path: PathPattern) -> Candidate[T]:
        conditions = entry.conditions
        rank = (-conditions.priority, -path.literal_bytes, -len(path.text), entry.id)
        if conditions.requirement is None:
            return Candidate(rank, entry.id, conditions.methods, entry.target)
        return RequiringCandidate(
            rank, entry.id, conditions.methods, self._by_requirement, entry.target, conditions.requirement, path
        )


class _RouterChange(Generic[T]):
    """The tables of hosts that change: those of few paths as copies, the others by changes of their own."""

    def __init__(
        self,
        hosts: dict[bytes, PathTable[T]],
        suffixes: dict[bytes, PathTable[T]],
        any_host: PathTable[T],
        dropped: list[object],
    ) -> None:
        self._hosts = DictChange(hosts)
        self._suffixes = DictChange(suffixes)
        self._any_host = any_host
        self._dropped = dropped
        self._in_place: list[PathChange[T]] = []
        self._suffixes_change = False
        # None: as they were.
        self.suffix_lengths: tuple[int, ...] | None = None

    def edit(self, host: HostPattern | None, removed: list[Removal], added: list[Addition[T]]) -> Steps[None]:
        tables = None if host is None else self._suffixes if host.wildcard else self._hosts
        table = self._any_host if host is None or tables is None else tables.get(host.name) or PathTable[T]()
        if host is None or tables is None or not table.is_small:
            change = PathChange(table, self._dropped)
            yield from change.prepare(removed, added)
            self._in_place.append(change)
            return
        self._dropped.append(table)
        table = table.copy()
        change = PathChange(table, self._dropped)
        yield from change.prepare(removed, added)
        change.apply()
        tables.set(host.name, table)
        self._suffixes_change = self._suffixes_change or host.wildcard

    def prepare(self) -> Steps[None]:
        yield from self._hosts.prepare()
        yield from self._suffixes.prepare()
        if self._suffixes_change:
            lengths = set()
            for suffix in self._suffixes:
                lengths.add(len(suffix))
                yield
            self.suffix_lengths = tuple(sorted(lengths, reverse=True))

    def apply(self) -> tuple[dict[bytes, PathTable[T]], dict[bytes, PathTable[T]]]:
        for change in self._in_place:
            change.apply()
        return self._hosts.apply(self._dropped), self._suffixes.apply(self._dropped)
