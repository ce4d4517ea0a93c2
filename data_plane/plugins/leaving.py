"""Which PluginContexts a new snapshot has no more.

The law: a change of one route looks at some hundreds of routes and not at 100,000 contexts: only at what the snapshots do not
share. A request that began on an older snapshot may make a context that no snapshot has any more; so from time to time all are
looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

from data_plane.config.route_map import RouteMap
from data_plane.config.snapshot import Binding, PluginBinding, Snapshot
from data_plane.plugins.loading import holds
from data_plane.plugins.slots import ContextSlot

ALL_EVERY_SECONDS: Final = 30.0


class Leaving:
    """`contexts` are those of a runtime, which it changes itself."""

    __slots__ = ("_all_at", "_contexts", "_last", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, contexts: Mapping[PluginBinding, ContextSlot]) -> None:
        self._loop = loop
        self._contexts = contexts
        self._last: Snapshot | None = None
        self._all_at = 0.0

    def found(self, snapshot: Snapshot) -> list[ContextSlot]:
        """Those that the snapshot has no more, each once."""
        last, self._last = self._last, snapshot
        candidates = self._candidates(last, snapshot)
        return [slot for slot in candidates if not holds(snapshot, slot.binding)]

    def _candidates(self, last: Snapshot | None, snapshot: Snapshot) -> Iterable[ContextSlot]:
        now = self._loop.time()
        if last is None or now >= self._all_at or not isinstance(last.routes, RouteMap):
            self._all_at = now + ALL_EVERY_SECONDS
            return self._contexts.values()
        found = (self._contexts.get(binding) for binding in _bindings(last, snapshot) if isinstance(binding, PluginBinding))
        return dict.fromkeys(slot for slot in found if slot is not None)


def _bindings(last: Snapshot, snapshot: Snapshot) -> Iterator[Binding]:
    """Of all that may be another one in `snapshot`."""
    assert isinstance(last.routes, RouteMap)
    yield from last.global_bindings
    of_routes = (route.bindings for route in last.routes.not_in(snapshot.routes))
    of_streams = (route.bindings for route in last.stream_routes.values())
    yield from chain.from_iterable(of_routes)
    yield from chain.from_iterable(of_streams)
