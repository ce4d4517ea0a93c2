"""The routes of one host by path.

The law: an exact path is found by one dictionary look-up and beats every pattern whatever the priorities. Then patterns
are tried from the longest stem (shared/path_pattern.py) to the shortest. Under one stem the order is: `priority` descending,
more literal bytes, longer pattern, key order of the routes. So `/a/b/*` is tried before `/a/:x/c` (its stem is longer),
`/a/:x/c` before `/a/:x/:y` (more literal bytes), and `/a/:x` before `/a/*` (longer) unless a priority says otherwise. A
candidate that does not take the request falls through to the next.

A route that asks for more than a method, a host and a path (requirement.py) stands in its place in the order with a target that
says so, and `match` ends there: `choose` begins anew, with all that is known of the request. So the others pay nothing for it.

Costs: a match depends on how many different stem lengths and shapes a table has, never on how many routes. A table
never changes; `change` makes the next one and copies only the dictionaries that the change touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from data_plane.routing.requirement import Requirement
from data_plane.routing.steps import Steps
from shared.expression.request import RequestVariables
from shared.path_pattern import PathPattern, Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """One pattern of one route. `rank` orders the candidates of one bucket, best first."""

    rank: tuple[int, int, int, str]
    route_id: str
    methods: frozenset[bytes] | None
    target: T

    def admits(self, request: RequestVariables) -> bool:
        return self.methods is None or request.method in self.methods

    @property
    def chosen(self) -> T:
        return self.target


@dataclass(frozen=True, slots=True)
class RequiringCandidate(Candidate[T]):
    """`target` says that there is a requirement, `route` is what takes a request that meets it."""

    route: T
    requirement: Requirement
    pattern: PathPattern

    def admits(self, request: RequestVariables) -> bool:
        """Raises BodyNeeded."""
        return Candidate.admits(self, request) and self.requirement.admits(request, self.pattern)

    @property
    def chosen(self) -> T:
        return self.route


Bucket = tuple[Candidate[T], ...]


@dataclass(slots=True)
class Edit(Generic[T]):
    """What happens to one bucket: whose candidates leave, which ones come."""

    leaving: set[str] = field(default_factory=set)
    coming: list[Candidate[T]] = field(default_factory=list)

    def applied_to(self, bucket: Bucket[T]) -> Bucket[T]:
        kept = [candidate for candidate in bucket if candidate.route_id not in self.leaving]
        return tuple(sorted(kept + self.coming, key=lambda candidate: candidate.rank))


Groups = dict[Shape, dict[bytes, Bucket[T]]]
Removal = tuple[PathPattern, str]
Addition = tuple[PathPattern, Candidate[T]]


class PathTable(Generic[T]):
    """Immutable. `match` is the hot path of every request."""

    __slots__ = ("_counts", "_exact", "_lengths", "_sole", "_stems")

    def __init__(
        self,
        exact: dict[bytes, Bucket[T]] | None = None,
        stems: dict[bytes, Groups[T]] | None = None,
        sole: dict[bytes, T] | None = None,
        counts: dict[int, int] | None = None,
    ) -> None:
        """`sole`: of the stems, those of which one pattern takes all; `counts`: how many stems there are of each length."""
        self._exact = exact or {}
        self._stems = stems or {}
        self._sole = sole or {}
        self._counts = counts or {}
        self._lengths = tuple(sorted(self._counts, reverse=True))

    def __bool__(self) -> bool:
        return bool(self._exact or self._stems)

    def match(self, method: bytes, path: bytes) -> T | None:
        bucket = self._exact.get(path)
        if bucket is not None:
            for candidate in bucket:
                if candidate.methods is None or method in candidate.methods:
                    return candidate.target
        size = len(path)
        for length in self._lengths:
            if length <= size:
                stem = path[:length]
                sole = self._sole.get(stem)
                if sole is not None:
                    return sole
                groups = self._stems.get(stem)
                if groups is not None:
                    found = _first(groups, method, path[length:])
                    if found is not None:
                        return found.target
        return None

    def choose(self, request: RequestVariables) -> T | None:
        """As `match`, with the requirements looked at. Raises BodyNeeded."""
        for candidate in self._candidates(request.path):
            if candidate.admits(request):
                return candidate.chosen
        return None

    def _candidates(self, path: bytes) -> Iterator[Candidate[T]]:
        """Those whose pattern takes the path, best first."""
        yield from self._exact.get(path, ())
        for length in self._lengths:
            groups = self._stems.get(path[:length]) if length <= len(path) else None
            if groups is not None:
                rest = path[length:]
                found = [buckets.get(key, ()) for shape, buckets in groups.items() if (key := shape.key_of(rest)) is not None]
                yield from sorted((candidate for bucket in found for candidate in bucket), key=lambda found: found.rank)

    def change(self, removed: Iterable[Removal], added: Iterable[Addition[T]], dropped: list[object]) -> Steps[PathTable[T]]:
        """In steps, the table without `removed` and with `added`. What it has no more goes to `dropped`: to let go of much at
        once takes time."""
        edits: dict[tuple[bytes, Shape | None, bytes], Edit[T]] = defaultdict(Edit)
        for pattern, route_id in removed:
            edits[pattern.stem, pattern.shape, pattern.key].leaving.add(route_id)
            yield
        for pattern, candidate in added:
            edits[pattern.stem, pattern.shape, pattern.key].coming.append(candidate)
            yield
        draft = _Draft(self._exact, self._stems, self._sole, self._counts)
        for (stem, shape, key), edit in edits.items():
            dropped.append(draft.edit(stem, shape, key, edit))
            yield
        return PathTable(draft.exact, draft.stems, draft.sole, draft.counts)


class _Draft(Generic[T]):
    """The dictionaries of the next table: copied when they are first touched, at a millisecond for 100,000 routes."""

    __slots__ = ("_fresh_groups", "_own_exact", "_own_stems", "counts", "exact", "sole", "stems")

    def __init__(
        self,
        exact: dict[bytes, Bucket[T]],
        stems: dict[bytes, Groups[T]],
        sole: dict[bytes, T],
        counts: dict[int, int],
    ) -> None:
        self.exact = exact
        self.stems = stems
        self.sole = sole
        self.counts = dict(counts)
        self._own_exact = self._own_stems = False
        self._fresh_groups: set[bytes] = set()

    def edit(self, stem: bytes, shape: Shape | None, key: bytes, edit: Edit[T]) -> object:
        """Returns what was there before."""
        return self._edit_exact(stem, edit) if shape is None else self._edit_stem(stem, shape, key, edit)

    def _edit_exact(self, path: bytes, edit: Edit[T]) -> object:
        if not self._own_exact:
            self.exact, self._own_exact = dict(self.exact), True
        before = self.exact.get(path, ())
        _set_or_drop(self.exact, path, edit.applied_to(before))
        return before

    def _edit_stem(self, stem: bytes, shape: Shape, key: bytes, edit: Edit[T]) -> object:
        if not self._own_stems:
            self.stems, self.sole, self._own_stems = dict(self.stems), dict(self.sole), True
        before = groups = self.stems.get(stem, {})
        if stem not in self._fresh_groups:
            groups = {other: dict(buckets) for other, buckets in groups.items()}
            self._fresh_groups.add(stem)
        buckets = groups.setdefault(shape, {})
        _set_or_drop(buckets, key, edit.applied_to(buckets.get(key, ())))
        if not buckets:
            del groups[shape]
        self._count(len(stem), bool(groups) - (stem in self.stems))
        _set_or_drop(self.stems, stem, groups)
        _set_or_drop(self.sole, stem, _sole(groups))
        return before

    def _count(self, length: int, difference: int) -> None:
        _set_or_drop(self.counts, length, self.counts.get(length, 0) + difference)


def _first(groups: Groups[T], method: bytes, rest: bytes) -> Candidate[T] | None:
    """The best candidate over all shapes of a stem: each bucket is in order, so its first fitting one stands for it."""
    best: Candidate[T] | None = None
    for shape, buckets in groups.items():
        key = shape.key_of(rest)
        if key is None:
            continue
        for candidate in buckets.get(key, ()):
            if candidate.methods is None or method in candidate.methods:
                if best is None or candidate.rank < best.rank:
                    best = candidate
                break
    return best


# A pattern that is its stem and `*`.
_ANYTHING = Shape((), (), 0)


def _sole(groups: Groups[T]) -> T | None:
    """The target that takes every request behind the stem, when nothing else could come before it."""
    best = groups[_ANYTHING][b""][0] if groups.keys() == {_ANYTHING} else None
    return best.target if best is not None and best.methods is None else None


K = TypeVar("K")
V = TypeVar("V")


def _set_or_drop(table: dict[K, V], key: K, value: V | None) -> None:
    """An empty value leaves no trace, so that a table never remembers routes that are gone."""
    if value:
        table[key] = value
    else:
        table.pop(key, None)
