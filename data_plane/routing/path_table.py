"""The routes of one host by path.

The law: an exact path is found by one dictionary look-up and beats every pattern whatever the priorities. Then patterns
are tried from the longest stem (shared/path_pattern.py) to the shortest. Under one stem the order is: `priority` descending,
more literal bytes, longer pattern, key order of the routes. So `/a/b/*` is tried before `/a/:x/c` (its stem is longer),
`/a/:x/c` before `/a/:x/:y` (more literal bytes), and `/a/:x` before `/a/*` (longer) unless a priority says otherwise. A
candidate that does not take the request falls through to the next.

A route that asks for more than a method, a host and a path (requirement.py) stands in its place in the order with a target that
says so, and `match` ends there: `choose` begins anew, with all that is known of the request. So the others pay nothing for it.

Costs: a match depends on how many different stem lengths and shapes a table has, never on how many routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from data_plane.routing.requirement import Requirement
from shared.expression.request import RequestVariables
from shared.path_pattern import PathPattern
from shared.path_shape import AnyShape, Shape

T = TypeVar("T")

# Buckets behind one stem, and paths of one host, that are copied for a change; of more than these only what changes is.
FEW = 16


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


Groups = dict[AnyShape, dict[bytes, Bucket[T]]]


class PathTable(Generic[T]):
    """`match` is the hot path of every request. Written by path_change.py only.

    `sole`: of the stems, those of which one pattern takes all; `counts`: how many stems there are of each length.
    """

    __slots__ = ("_lengths", "counts", "exact", "sole", "stems")

    def __init__(self) -> None:
        self.exact: dict[bytes, Bucket[T]] = {}
        self.stems: dict[bytes, Groups[T]] = {}
        self.sole: dict[bytes, T] = {}
        self.counts: dict[int, int] = {}
        self._lengths: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.exact) + len(self.stems)

    @property
    def is_small(self) -> bool:
        """So that a copy costs nothing to speak of."""
        buckets = (len(buckets) for groups in self.stems.values() for buckets in groups.values())
        return len(self) <= FEW and sum(buckets) <= FEW

    def copy(self) -> PathTable[T]:
        """One that can be written without this one's changing."""
        other = PathTable[T]()
        other.exact, other.stems, other.sole = dict(self.exact), dict(self.stems), dict(self.sole)
        other.put_counts(dict(self.counts))
        return other

    def put_counts(self, counts: dict[int, int]) -> None:
        self.counts = counts
        self._lengths = tuple(sorted(counts, reverse=True))

    def match(self, method: bytes, path: bytes) -> T | None:
        bucket = self.exact.get(path)
        if bucket is not None:
            for candidate in bucket:
                if candidate.methods is None or method in candidate.methods:
                    return candidate.target
        size = len(path)
        for length in self._lengths:
            if length <= size:
                stem = path[:length]
                sole = self.sole.get(stem)
                if sole is not None:
                    return sole
                groups = self.stems.get(stem)
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
        yield from self.exact.get(path, ())
        for length in self._lengths:
            groups = self.stems.get(path[:length]) if length <= len(path) else None
            if groups is not None:
                rest = path[length:]
                found = [buckets.get(key, ()) for shape, buckets in groups.items() if (key := shape.key_of(rest)) is not None]
                yield from sorted((candidate for bucket in found for candidate in bucket), key=lambda found: found.rank)


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


def sole_target(groups: Groups[T]) -> T | None:
    """The target that takes every request behind the stem, when nothing else could come before it."""
    best = groups[_ANYTHING][b""][0] if groups.keys() == {_ANYTHING} else None
    return best.target if best is not None and best.methods is None else None
