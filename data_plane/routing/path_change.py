"""A change of a path table: prepared beside it, in steps, and then done at once.

The law: until `apply` the table answers as before, from then on as changed; `apply` does not take longer for more routes
(dict_change.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from data_plane.routing.dict_change import DictChange
from data_plane.routing.path_table import FEW, Bucket, Candidate, Groups, PathTable, sole_target
from data_plane.routing.steps import Steps
from shared.path_pattern import PathPattern
from shared.path_shape import AnyShape

T = TypeVar("T")

Removal = tuple[PathPattern, str]
Addition = tuple[PathPattern, Candidate[T]]


@dataclass(slots=True)
class Edit(Generic[T]):
    """What happens to one bucket: whose candidates leave, which ones come."""

    leaving: set[str] = field(default_factory=set)
    coming: list[Candidate[T]] = field(default_factory=list)

    def applied_to(self, bucket: Bucket[T]) -> Bucket[T]:
        kept = [candidate for candidate in bucket if candidate.route_id not in self.leaving]
        return tuple(sorted(kept + self.coming, key=lambda candidate: candidate.rank))


class PathChange(Generic[T]):
    def __init__(self, table: PathTable[T], dropped: list[object]) -> None:
        """What the table has no more goes to `dropped`: to let go of much at once takes time."""
        self._table = table
        self._dropped = dropped
        self._exact = DictChange(table.exact)
        self._stems = DictChange(table.stems)
        self._sole = DictChange(table.sole)
        self._counts = dict(table.counts)
        # Stems whose groups are a copy already, and what changes behind those that have many.
        self._copied: set[bytes] = set()
        self._large: dict[tuple[bytes, AnyShape], DictChange[bytes, Bucket[T]]] = {}

    def prepare(self, removed: Iterable[Removal], added: Iterable[Addition[T]]) -> Steps[None]:
        edits: dict[tuple[bytes, AnyShape | None, bytes], Edit[T]] = defaultdict(Edit)
        for pattern, route_id in removed:
            edits[pattern.stem, pattern.shape, pattern.key].leaving.add(route_id)
            yield
        for pattern, candidate in added:
            edits[pattern.stem, pattern.shape, pattern.key].coming.append(candidate)
            yield
        self._dropped.append(edits)
        for (stem, shape, key), edit in edits.items():
            if shape is None:
                self._edit(self._exact, stem, edit)
            else:
                self._edit_stem(stem, shape, key, edit)
            yield
        yield from self._exact.prepare()
        yield from self._stems.prepare()
        yield from self._sole.prepare()
        for change in self._large.values():
            yield from change.prepare()

    def apply(self) -> None:
        table, dropped = self._table, self._dropped
        table.exact = self._exact.apply(dropped)
        table.stems = self._stems.apply(dropped)
        table.sole = self._sole.apply(dropped)
        for (stem, shape), change in self._large.items():
            table.stems[stem][shape] = change.apply(dropped)
        for stem, shape in self._large:
            groups = table.stems[stem]
            if not groups[shape]:
                del groups[shape]
            if not groups:
                del table.stems[stem]
                self._count(stem, -1)
        table.put_counts(self._counts)

    def _edit(self, change: DictChange[bytes, Bucket[T]], key: bytes, edit: Edit[T]) -> None:
        before = change.get(key) or ()
        self._dropped.append(before)
        change.set(key, edit.applied_to(before))

    def _edit_stem(self, stem: bytes, shape: AnyShape, key: bytes, edit: Edit[T]) -> None:
        groups: Groups[T] = self._stems.get(stem) or {}
        if stem not in self._copied:
            if sum(len(buckets) for buckets in groups.values()) > FEW:
                change = self._large.get((stem, shape))
                if change is None:
                    change = self._large[stem, shape] = DictChange(groups.get(shape, {}))
                self._edit(change, key, edit)
                return
            self._dropped.append(groups)
            groups = {other: dict(buckets) for other, buckets in groups.items()}
            self._copied.add(stem)
        had = self._stems.get(stem) is not None
        buckets = groups.setdefault(shape, {})
        bucket = edit.applied_to(buckets.pop(key, ()))
        if bucket:
            buckets[key] = bucket
        if not buckets:
            del groups[shape]
        self._count(stem, bool(groups) - had)
        self._stems.set(stem, groups)
        self._sole.set(stem, sole_target(groups))

    def _count(self, stem: bytes, difference: int) -> None:
        count = self._counts.pop(len(stem), 0) + difference
        if count:
            self._counts[len(stem)] = count
