"""Routes by id, as snapshots have them: a mapping that never changes, and whose successor shares most of it.

The law: a change of one route copies one part of the mapping, a few hundred entries of 100,000.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from data_plane.config.snapshot import Route
from data_plane.routing.steps import Steps

PARTS = 256

Part = dict[str, Route]


class RouteMap(Mapping[str, Route]):
    __slots__ = ("_parts", "_size")

    def __init__(self, parts: tuple[Part, ...] = ({},) * PARTS, size: int = 0) -> None:
        self._parts = parts
        self._size = size

    def __getitem__(self, route_id: str) -> Route:
        return self._parts[hash(route_id) % PARTS][route_id]

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return self._size

    def not_in(self, other: Mapping[str, Route]) -> Iterator[Route]:
        """The routes that `other` has not, or has as other objects."""
        parts = other._parts if isinstance(other, RouteMap) else None
        for index, part in enumerate(self._parts):
            if parts is None or part is not parts[index]:
                yield from (route for route_id, route in part.items() if other.get(route_id) is not route)

    def replaced(self, removed: Iterable[str], added: Iterable[Route], dropped: list[object]) -> Steps[RouteMap]:
        """In steps, the mapping without `removed` and with `added`. Parts that it has no more go to `dropped`."""
        gone: dict[int, list[str]] = defaultdict(list)
        come: dict[int, list[Route]] = defaultdict(list)
        for route_id in removed:
            gone[hash(route_id) % PARTS].append(route_id)
            yield
        for route in added:
            come[hash(route.id) % PARTS].append(route)
            yield
        parts, size = list(self._parts), self._size
        for index in gone.keys() | come.keys():
            part = dict(parts[index])
            for route_id in gone[index]:
                del part[route_id]
            for route in come[index]:
                part[route.id] = route
            size += len(part) - len(parts[index])
            # Older snapshots may still have it.
            dropped.append((parts[index],))
            parts[index] = part
            yield
        return RouteMap(tuple(parts), size)
