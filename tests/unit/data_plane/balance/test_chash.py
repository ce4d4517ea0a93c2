"""A key stays with its node as long as that takes traffic, whoever else comes and goes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.balance.chash import MOST_POINTS, ConsistentHash, Ring
from data_plane.config.snapshot import Node

KEYS = [b"key %d" % number for number in range(2000)]


def node(name: str, weight: int = 1) -> Node:
    return Node(name, 80, weight, name.encode())


def nodes(count: int) -> list[Node]:
    return [node(f"10.0.0.{number}") for number in range(count)]


def owners(ring: Ring, passed: tuple[Node, ...] = ()) -> dict[bytes, str]:
    return {key: found.host for key in KEYS if (found := ring.choose(key, passed)) is not None}


def test_an_empty_ring_has_no_node() -> None:
    assert Ring([]).choose(b"x", ()) is None


def test_the_order_of_nodes_means_nothing() -> None:
    some = nodes(7)
    assert owners(Ring(some)) == owners(Ring(some[::-1]))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.data())
def test_a_node_that_goes_takes_its_own_keys_only(count: int, data: st.DataObject) -> None:
    some = nodes(count)
    before = owners(Ring(some))
    gone = data.draw(st.sampled_from(some))
    after = owners(Ring([node for node in some if node != gone]))
    moved = [key for key in KEYS if before[key] != after[key]]
    assert all(before[key] == gone.host for key in moved)
    # One nth, and as much again for the unevenness of 160 points.
    assert len(moved) <= 2 * len(KEYS) / count


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 11))
def test_a_node_that_comes_gets_keys_and_nobody_else_does(count: int) -> None:
    before, after = owners(Ring(nodes(count))), owners(Ring(nodes(count + 1)))
    assert {after[key] for key in KEYS if before[key] != after[key]} == {f"10.0.0.{count}"}


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 10), st.data())
def test_a_node_that_is_passed_by_gives_its_keys_as_if_it_were_gone(count: int, data: st.DataObject) -> None:
    some = nodes(count)
    down = data.draw(st.sampled_from(some))
    ring = Ring(some)
    assert owners(ring, (down,)) == owners(Ring([node for node in some if node != down]))
    assert owners(ConsistentHash(ring, (down,)).ring) == owners(ring)


def test_attempts_walk_on_to_each_node_once() -> None:
    some = nodes(5)
    algorithm = ConsistentHash(Ring(some), (some[2],))
    for key in KEYS[:50]:
        tried: tuple[Node, ...] = ()
        while (found := algorithm.choose(key, tried)) is not None:
            tried += (found,)
        assert sorted(node.host for node in tried) == [node.host for node in some if node != some[2]]


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1), (5, 3, 2), (20, 10)])
def test_keys_spread_as_weights_say(weights: tuple[int, ...]) -> None:
    found = Counter(owners(Ring([node(f"n{index}", weight) for index, weight in enumerate(weights)])).values())
    for index, weight in enumerate(weights):
        expected = len(KEYS) * weight / sum(weights)
        assert abs(found[f"n{index}"] - expected) < 0.3 * expected


def test_the_greatest_common_divisor_of_weights_means_nothing() -> None:
    assert owners(Ring([node("a", 2), node("b", 4)])) == owners(Ring([node("a", 50), node("b", 100)]))


def test_a_ring_is_bounded() -> None:
    ring = Ring([node("a", 1_000_000), node("b", 999_999)])
    assert len(ring._points) <= MOST_POINTS + 2
    assert {"a", "b"} == set(owners(ring).values())


def test_addresses_behind_one_name_are_nodes_of_their_own() -> None:
    some = [Node("name.test", 80, 1, b"name.test", address=f"10.0.0.{number}") for number in range(3)]
    ring = Ring(some)
    assert {found.address for key in KEYS if (found := ring.choose(key, ()))} == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}
