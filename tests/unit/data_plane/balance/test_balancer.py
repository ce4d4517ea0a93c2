"""Priorities, nodes that are down, and what passes from one version of an upstream to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.balance.hash_key import hash_key
from data_plane.config.snapshot import Node
from shared.schema.balancing import BalancerType

TYPES: tuple[BalancerType, ...] = ("roundrobin", "chash", "least_conn", "ewma")


def node(name: str, weight: int = 1, priority: int = 0) -> Node:
    return Node(name, 80, weight, name.encode(), priority)


def clock() -> float:
    return 5.0


class Watched:
    """Health and addresses of one upstream, as a test says."""

    def __init__(self, *, reports: bool = False) -> None:
        self.reports = reports
        self.down: set[str] = set()
        self.addresses: tuple[str, ...] | None = None
        self.changed: Callable[[], None] = lambda: None

    def unhealthy(self, nodes: tuple[Node, ...]) -> Collection[Node]:
        return [node for node in nodes if node.host in self.down]

    def report(self, node: Node, outcome: int) -> None:
        return None

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def resolved(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        if self.addresses is None:
            return nodes
        return tuple(replace(node, address=address) for node in nodes for address in self.addresses)

    def mark(self, *down: str) -> None:
        self.down = set(down)
        self.changed()

    def resolve(self, *addresses: str) -> None:
        self.addresses = addresses
        self.changed()


def balancer(
    type: BalancerType, *nodes: Node, health: Watched | None = None, before: Balancer | None = None, deadline: bool = False
) -> Balancer:
    key = hash_key("vars", "uri") if type == "chash" else None
    return Balancer(nodes, clock, Balancing(type, key, deadline), health, None, before, Random(3))


def choices(it: Balancer, tried: tuple[Node, ...] = ()) -> str:
    """Whom attempts go to, one after the other, each not having been tried."""
    found = ""
    while (chosen := it.choose(b"key", tried)) is not None:
        tried += (chosen,)
        found += chosen.host
    return found


def spread(it: Balancer, count: int = 60) -> set[str]:
    return {chosen.host for number in range(count) if (chosen := it.choose(b"%d" % number, ())) is not None}


@pytest.mark.parametrize("type", TYPES)
def test_lower_priorities_wait_until_the_higher_were_tried(type: BalancerType) -> None:
    it = balancer(type, node("a", priority=-1), node("b", priority=5), node("c", priority=5), node("d"))
    assert spread(it) == {"b", "c"}
    found = choices(it)
    assert (set(found[:2]), found[2:]) == ({"b", "c"}, "da")


@pytest.mark.parametrize("type", TYPES)
def test_a_level_that_is_down_is_passed_over_and_comes_back(type: BalancerType) -> None:
    health = Watched()
    it = balancer(type, node("a", priority=1), node("b", priority=1), node("c"), health=health)
    health.mark("a")
    assert (spread(it), choices(it)) == ({"b"}, "bc")
    health.mark("a", "b")
    assert (spread(it), choices(it)) == ({"c"}, "c")
    health.mark()
    assert spread(it) == {"a", "b"}


@pytest.mark.parametrize("type", TYPES)
def test_all_down_means_that_all_take_traffic(type: BalancerType) -> None:
    health = Watched()
    it = balancer(type, node("a"), node("b"), health=health)
    health.mark("a", "b")
    assert spread(it) == {"a", "b"}


@pytest.mark.parametrize("type", TYPES)
def test_a_node_without_weight_takes_nothing_and_down_nodes_are_not_made_up_for_by_it(type: BalancerType) -> None:
    health = Watched()
    it = balancer(type, node("a"), node("b", weight=0), health=health)
    assert choices(it) == "a"
    health.mark("a")
    assert choices(it) == "a"
    assert choices(balancer(type, node("b", weight=0))) == ""


@pytest.mark.parametrize("type", TYPES)
def test_addresses_behind_a_name_are_nodes(type: BalancerType) -> None:
    names = Watched()
    key = hash_key("vars", "uri") if type == "chash" else None
    it = Balancer((node("name.test"),), clock, Balancing(type, key), None, names, None, Random(3))
    assert [chosen.address for chosen in it.nodes] == [""]
    names.resolve("10.0.0.1", "10.0.0.2")
    tried = tuple(chosen for _ in range(1) if (chosen := it.choose(b"", ())) is not None)
    second = it.choose(b"", tried)
    assert second is not None
    assert {tried[0].address, second.address} == {"10.0.0.1", "10.0.0.2"}
    names.resolve()
    assert it.choose(b"", ()) is None


def test_only_plain_round_robin_picks_at_once() -> None:
    one = node("a")
    assert balancer("roundrobin", one).pick() is one
    assert balancer("roundrobin", one, health=Watched()).pick() is one
    for it in (
        balancer("roundrobin", one, health=Watched(reports=True)),
        balancer("roundrobin", one, deadline=True),
        balancer("chash", one),
        balancer("least_conn", one),
        balancer("ewma", one),
    ):
        assert (it.at_once, it.pick(), it.choose(b"", ())) == (False, None, one)


def test_only_those_who_want_to_hear_of_attempts_do() -> None:
    one = node("a")
    assert balancer("roundrobin", one).begin(one) is None
    assert balancer("roundrobin", one, health=Watched()).begin(one) is None
    assert balancer("chash", one).begin(one) is None
    assert balancer("roundrobin", one, health=Watched(reports=True)).begin(one) is not None
    assert balancer("least_conn", one).begin(one) is not None
    assert balancer("ewma", one).begin(one) is not None


def test_picks_at_once_follow_the_health_of_nodes() -> None:
    health = Watched()
    it = balancer("roundrobin", node("a"), node("b"), node("c"), health=health)

    def picks(count: int) -> str:
        return "".join(picked.host for _ in range(count) if (picked := it.pick()) is not None)

    assert picks(7) == "abcabca"
    health.mark("b")
    assert picks(4) == "caca"
    health.mark("b", "a", "c")
    assert sorted(picks(3)) == ["a", "b", "c"]
    health.mark("c")
    assert set(picks(6)) == {"a", "b"}


# From one version to the next.


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 40), st.booleans())
def test_round_robin_goes_on_where_it_was(weights: list[int], picks: int, has_one_more: bool) -> None:
    some = [node(chr(ord("a") + index), weight) for index, weight in enumerate(weights)]
    before, twin = balancer("roundrobin", *some), balancer("roundrobin", *some)
    for _ in range(picks):
        before.pick()
        twin.pick()
    expected = twin.pick()
    after = balancer("roundrobin", *some, *([node("z")] if has_one_more else []), before=before)
    assert after.pick() == expected


def test_what_is_in_flight_is_known_to_the_next_version_and_ends_there() -> None:
    a, b, c = node("a"), node("b"), node("c")
    before = balancer("least_conn", a, b)
    attempts = [before.begin(a), before.begin(a), before.begin(b)]
    after = balancer("least_conn", replace(a, weight=1, priority=0), b, c, before=before)
    assert after.choose(b"", ()) == c
    assert after.choose(b"", (c,)) == b
    for attempt in attempts[:2]:
        assert attempt is not None
        attempt.end()
    assert after.choose(b"", (c,)) == a


def test_a_node_that_left_is_forgotten() -> None:
    a, b = node("a"), node("b")
    first = balancer("least_conn", a, b)
    first.begin(a)
    second = balancer("least_conn", b, before=first)
    third = balancer("least_conn", a, b, before=second)
    assert third.choose(b"", ()) == a


def test_a_ring_of_the_same_nodes_is_not_built_again() -> None:
    some = [node(str(number)) for number in range(3)]
    health = Watched()
    before = balancer("chash", *some, health=health)
    ring = before._arranged[0].ring  # type: ignore[attr-defined]  # of chash
    health.mark("1")
    assert before._arranged[0].ring is ring  # type: ignore[attr-defined]
    assert balancer("chash", *some, before=before)._arranged[0].ring is ring  # type: ignore[attr-defined]
