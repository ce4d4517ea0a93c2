"""Weights hold exactly over a period, spread out, and a weight of 0 takes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.balance.round_robin import LONGEST_REMEMBERED_PERIOD, SmoothRoundRobin


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    weight: int


def servers(*weights: int) -> list[Server]:
    return [Server(chr(ord("a") + index), weight) for index, weight in enumerate(weights)]


@pytest.mark.parametrize(
    ("weights", "picks"),
    [
        ((1,), "aaaa"),
        ((1, 1, 1), "abcabc"),
        ((5, 1, 1), "aabacaaaabacaa"),
        ((2, 0, 1), "acaaca"),
        ((100, 100), "abab"),
        ((0, 3), "bbb"),
    ],
)
def test_order(weights: tuple[int, ...], picks: str) -> None:
    balancer = SmoothRoundRobin(servers(*weights))
    assert "".join(node.name for _ in picks if (node := balancer.pick())) == picks


@pytest.mark.parametrize("weights", [(), (0,), (0, 0)])
def test_nothing_to_pick(weights: tuple[int, ...]) -> None:
    balancer = SmoothRoundRobin(servers(*weights))
    assert [balancer.pick() for _ in range(3)] == [None] * 3


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any), st.integers(0, 100))
def test_every_period_holds_the_weights(weights: list[int], start: int) -> None:
    balancer = SmoothRoundRobin(servers(*weights))
    divisor = gcd(*weights)
    for _ in range(start):
        balancer.pick()
    picks = Counter(node.name for _ in range(sum(weights) // divisor) if (node := balancer.pick()))
    assert picks == {server.name: server.weight // divisor for server in servers(*weights) if server.weight}


def test_a_period_too_long_to_remember_holds_the_weights() -> None:
    weights = (LONGEST_REMEMBERED_PERIOD, 7, 1)
    balancer = SmoothRoundRobin(servers(*weights))
    for _ in range(2):
        picks = Counter(node.name for _ in range(sum(weights)) if (node := balancer.pick()))
        assert picks == {"a": weights[0], "b": 7, "c": 1}


def test_thousands_of_equal_nodes_take_turns() -> None:
    nodes = [Server(str(index), 1) for index in range(2000)]
    balancer = SmoothRoundRobin(nodes)
    assert [balancer.pick() for _ in range(2)] == nodes[:2]
    for _ in range(1998):
        balancer.pick()
    assert balancer.pick() is nodes[0]
