"""Which contexts a new snapshot has no more, found in what changed and not by looking at all."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from data_plane.config.route_map import RouteMap
from data_plane.config.snapshot import PluginBinding, Route, Snapshot, StreamRoute, Timeouts
from data_plane.plugins.leaving import ALL_EVERY_SECONDS, Leaving
from data_plane.plugins.slots import ContextSlot
from data_plane.routing.steps import finish
from tests.support.chain import snapshot as plain_snapshot


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now


class Contexts(dict[PluginBinding, ContextSlot]):
    """With a slot for each binding of the routes; it counts how often all were looked at."""

    looked_at_all = 0

    def values(self) -> Any:  # noqa: ANN401 - as dict has it
        self.looked_at_all += 1
        return super().values()


def binding(owner: str) -> PluginBinding:
    return PluginBinding(cast(Any, SimpleNamespace(name="p")), b"", owner, 0)


def route(id: str, *bindings: PluginBinding) -> Route:
    return Route(id, id, None, bindings or (binding(f"route/{id}"),), Timeouts())


def started(contexts: Contexts, *bindings: PluginBinding) -> None:
    for one in bindings:
        contexts[one] = ContextSlot(one, cast(Any, None))


def routes(before: RouteMap, removed: list[str], added: list[Route]) -> RouteMap:
    return finish(before.replaced(removed, added, []))


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_look_at_all_finds(seed: int) -> None:
    choose = random.Random(seed)
    contexts, clock = Contexts(), Clock()
    leaving = Leaving(cast(Any, clock), contexts)
    present = routes(RouteMap(), [], [route(str(number)) for number in range(300)])
    streams: dict[str, StreamRoute] = {}
    leaving.found(Snapshot(1, cast(Any, None), present))
    for revision in range(2, 40):
        effective = [one for each in present.values() for one in each.bindings if isinstance(one, PluginBinding)]
        effective += [one for each in streams.values() for one in each.bindings]
        started(contexts, *(one for one in effective if choose.random() < 0.3))
        gone = choose.sample(sorted(present), 2)
        come = [route(choose.choice([*gone, f"new-{revision}"]))]
        present = routes(present, gone, come)
        if choose.random() < 0.3:
            streams = {"s": StreamRoute("s", "s", None, (binding("stream_route/s"),))}
        now = Snapshot(revision, cast(Any, None), present, stream_routes=streams)
        expected = {one for one in contexts if not _held(now, one)}
        found = leaving.found(now)
        assert {slot.binding for slot in found} == expected
        assert len(found) == len(expected)
        for slot in found:
            del contexts[slot.binding]
    assert contexts.looked_at_all == 1


def _held(now: Snapshot, one: PluginBinding) -> bool:
    of_routes = (held for each in now.routes.values() for held in each.bindings)
    of_streams = (held for each in now.stream_routes.values() for held in each.bindings)
    return any(one is held for held in (*of_routes, *of_streams))


def test_contexts_that_came_from_an_older_snapshot_are_found_after_a_while() -> None:
    contexts, clock = Contexts(), Clock()
    leaving = Leaving(cast(Any, clock), contexts)
    now = Snapshot(1, cast(Any, None), routes(RouteMap(), [], [route("1")]))
    leaving.found(now)
    late = binding("route/1")
    started(contexts, late)
    assert leaving.found(now) == []
    clock.now += ALL_EVERY_SECONDS
    assert [slot.binding for slot in leaving.found(now)] == [late]


def test_routes_in_another_kind_of_mapping_are_all_looked_at() -> None:
    contexts = Contexts()
    leaving = Leaving(cast(Any, Clock()), contexts)
    old = binding("route/1")
    leaving.found(plain_snapshot(old))
    started(contexts, old)
    assert [slot.binding for slot in leaving.found(plain_snapshot())] == [old]
