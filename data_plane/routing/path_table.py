"""The routes of one host by path.

The law: an exact path is found by one dictionary look-up and beats every pattern whatever the priorities. Then patterns
are tried from the longest stem (shared/path_pattern.py) to the shortest. Under one stem the order is: `priority` descending,
more literal bytes, longer pattern, key order of the routes. So `/a/b/*` is tried before `/a/:x/c` (its stem is longer),
`/a/:x/c` before `/a/:x/:y` (more literal bytes), and `/a/:x` before `/a/*` (longer) unless a priority says otherwise. A
candidate that does not take the method falls through to the next.

Costs: a match depends on how many different stem lengths and shapes a table has, never on how many routes. A table
never changes; `changed` makes the next one and copies only the dictionaries that the change touches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shared.path_pattern import PathPattern, Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """One pattern of one route. `rank` orders the candidates of one bucket, best first."""

    rank: tuple[int, int, int, str]
    route_id: str
    methods: frozenset[bytes] | None
    target: T


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

    __slots__ = ("_exact", "_lengths", "_sole", "_stems")

    def __init__(
        self,
        exact: dict[bytes, Bucket[T]] | None = None,
        stems: dict[bytes, Groups[T]] | None = None,
        lengths: tuple[int, ...] = (),
        sole: dict[bytes, T] | None = None,
    ) -> None:
        """`lengths`: every length that a stem has, descending; `sole`: of the stems, those of which one pattern takes all."""
        self._exact = exact or {}
        self._stems = stems or {}
        self._lengths = lengths
        self._sole = sole or {}

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

    def changed(self, removed: Iterable[Removal], added: Iterable[Addition[T]]) -> PathTable[T]:
        edits: dict[tuple[bytes, Shape | None, bytes], Edit[T]] = defaultdict(Edit)
        for pattern, route_id in removed:
            edits[pattern.stem, pattern.shape, pattern.key].leaving.add(route_id)
        for pattern, candidate in added:
            edits[pattern.stem, pattern.shape, pattern.key].coming.append(candidate)
        exact, stems, sole = self._exact, self._stems, self._sole
        for (stem, shape, key), edit in edits.items():
            if shape is None:
                exact = dict(exact) if exact is self._exact else exact
                _set_or_drop(exact, stem, edit.applied_to(exact.get(stem, ())))
            else:
                if stems is self._stems:
                    stems, sole = dict(stems), dict(sole)
                groups = stems.get(stem, {})
                if groups is self._stems.get(stem):
                    groups = {other: dict(buckets) for other, buckets in groups.items()}
                _edit_group(groups, shape, key, edit)
                _set_or_drop(stems, stem, groups)
                _set_or_drop(sole, stem, _sole(groups))
        lengths = self._lengths
        if stems is not self._stems:
            lengths = tuple(sorted({len(stem) for stem in stems}, reverse=True))
        return PathTable(exact, stems, lengths, sole)


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


def _edit_group(groups: Groups[T], shape: Shape, key: bytes, edit: Edit[T]) -> None:
    buckets = groups.setdefault(shape, {})
    _set_or_drop(buckets, key, edit.applied_to(buckets.get(key, ())))
    if not buckets:
        del groups[shape]


K = TypeVar("K")
V = TypeVar("V")


def _set_or_drop(table: dict[K, V], key: K, value: V | None) -> None:
    """An empty value leaves no trace, so that a table never remembers routes that are gone."""
    if value:
        table[key] = value
    else:
        table.pop(key, None)
