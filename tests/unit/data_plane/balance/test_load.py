"""Balancing by load: who has least to do, who answers fastest, and what an attempt leaves behind."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.balance.ewma import Ewma
from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.balance.least_conn import LeastConn
from data_plane.balance.load import DECAY_SECONDS, FAILURE_SECONDS, Load, Try
from data_plane.config.snapshot import Node


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Reports:
    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def report(self, node: Node, outcome: int) -> None:
        self.heard.append((node.host, outcome))


def node(name: str, weight: int = 1) -> Node:
    return Node(name, 80, weight, name.encode())


def loaded(*weights: int) -> list[tuple[Node, Load]]:
    return [(node(chr(ord("a") + index), weight), Load()) for index, weight in enumerate(weights)]


def picks(algorithm: LeastConn | Ewma, count: int) -> str:
    return "".join(found.host for _ in range(count) if (found := algorithm.choose(b"", ())))


# Least connections.


def test_idle_nodes_take_turns() -> None:
    assert picks(LeastConn(loaded(1, 1, 1)), 6) == "abcabc"


def test_the_node_with_least_to_do_is_next() -> None:
    pairs = loaded(1, 1, 1)
    pairs[0][1].in_flight, pairs[2][1].in_flight = 2, 1
    assert picks(LeastConn(pairs), 2) == "bb"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 200))
def test_what_is_in_flight_follows_the_weights(weights: list[int], requests: int) -> None:
    pairs = loaded(*weights)
    loads = {pair[0].host: pair[1] for pair in pairs}
    algorithm = LeastConn(pairs)
    for _ in range(requests):
        found = algorithm.choose(b"", ())
        assert found is not None
        loads[found.host].in_flight += 1
    # Nobody could have been given one more and still be below where somebody else stands.
    for pair in pairs:
        for other in pairs:
            assert other[1].in_flight / other[0].weight <= (pair[1].in_flight + 1) / pair[0].weight


def test_a_node_that_was_tried_is_left_out_until_none_is_left() -> None:
    pairs = loaded(1, 9)
    algorithm = LeastConn(pairs)
    assert algorithm.choose(b"", (pairs[1][0],)) == pairs[0][0]
    assert algorithm.choose(b"", (pairs[0][0], pairs[1][0])) is None


# The fastest of two.


def test_the_faster_of_two_is_taken() -> None:
    clock = Clock()
    pairs = loaded(1, 1)
    pairs[0][1].observe(0.2, clock.now)
    pairs[1][1].observe(0.1, clock.now)
    assert picks(Ewma(pairs, clock, Random(1)), 5) == "bbbbb"


def test_what_is_in_flight_counts_as_waiting() -> None:
    clock = Clock()
    pairs = loaded(1, 1)
    for _, load in pairs:
        load.observe(0.1, clock.now)
    pairs[0][1].in_flight = 3
    assert picks(Ewma(pairs, clock, Random(1)), 4) == "bbbb"


def test_a_new_node_is_tried_by_one_request_and_then_waited_for() -> None:
    clock = Clock()
    pairs = loaded(1, 1)
    pairs[0][1].observe(0.001, clock.now)
    algorithm = Ewma(pairs, clock, Random(1))
    assert picks(algorithm, 1) == "b"
    pairs[1][1].in_flight = 1
    assert picks(algorithm, 3) == "aaa"


def test_of_many_nodes_the_slowest_gets_nothing_and_the_others_share() -> None:
    clock = Clock()
    pairs = loaded(1, 1, 1, 1)
    for _, load in pairs:
        load.observe(0.1, clock.now)
    pairs[3][1].observe(5.0, clock.now)
    found = Counter(picks(Ewma(pairs, clock, Random(7)), 600))
    assert found["d"] == 0
    assert all(found[name] > 100 for name in "abc")


@pytest.mark.parametrize(("count", "tried", "left"), [(1, 0, "a"), (1, 1, ""), (3, 2, "c"), (2, 2, "")])
def test_ewma_leaves_out_what_was_tried(count: int, tried: int, left: str) -> None:
    pairs = loaded(*[1] * count)
    found = Ewma(pairs, Clock(), Random(1)).choose(b"", tuple(pair[0] for pair in pairs[:tried]))
    assert (found.host if found else "") == left


# The average.


def test_a_slower_answer_counts_at_once_a_faster_one_with_time() -> None:
    load = Load()
    load.observe(0.1, 0)
    load.observe(0.5, 1)
    assert load.seconds == 0.5
    load.observe(0.1, 1)
    assert load.seconds == 0.5
    load.observe(0.1, 1 + DECAY_SECONDS)
    assert load.seconds == pytest.approx(0.1 + 0.4 / 2.718281828)
    assert load.decayed(1 + 2 * DECAY_SECONDS) == pytest.approx(load.seconds / 2.718281828)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 100)), min_size=1, max_size=30))
def test_the_average_lies_between_the_last_answer_and_the_slowest(samples: list[tuple[float, float]]) -> None:
    load = Load()
    now = 0.0
    for seconds, passed in samples:
        now += passed
        load.observe(seconds, now)
        assert seconds - 1e-9 <= load.seconds <= max(seconds for seconds, _ in samples) + 1e-9


# Attempts.


def test_an_attempt_is_in_flight_until_its_end_however_often_that_is_told() -> None:
    load = Load()
    one, two = Try(node("a"), load, Clock(), None), Try(node("a"), load, Clock(), None)
    assert load.in_flight == 2
    one.answered(200)
    assert load.in_flight == 2
    one.end()
    one.end()
    two.failed("upstream_closed")
    two.end()
    assert load.in_flight == 0


def test_an_answer_is_measured_and_reported() -> None:
    clock, load, reports = Clock(), Load(), Reports()
    attempt = Try(node("a"), load, clock, reports)
    clock.now += 0.25
    attempt.answered(503)
    assert (load.seconds, reports.heard) == (0.25, [("a", 503)])
    attempt.failed("upstream_closed")
    assert (load.in_flight, reports.heard) == (0, [("a", 503)])


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("upstream_connect_failed", [("a", TCP_FAILURE)]),
        ("upstream_closed", [("a", TCP_FAILURE)]),
        ("upstream_connect_timeout", [("a", TIMEOUT)]),
        ("upstream_read_timeout", [("a", TIMEOUT)]),
        ("upstream_send_timeout", [("a", TIMEOUT)]),
        ("upstream_bad_response", []),
    ],
)
def test_a_failure_is_reported_and_costs_more_than_any_answer(kind: str, outcomes: list[tuple[str, int]]) -> None:
    load, reports = Load(), Reports()
    Try(node("a"), load, Clock(), reports).failed(kind)
    assert (load.in_flight, load.seconds, reports.heard) == (0, FAILURE_SECONDS, outcomes)


def test_an_attempt_that_nobody_waited_for_says_nothing() -> None:
    load, reports = Load(), Reports()
    Try(node("a"), load, Clock(), reports).end()
    assert (load.at, reports.heard) == (None, [])


def test_a_connection_without_http_is_measured_only() -> None:
    load, reports = Load(), Reports()
    Try(node("a"), load, Clock(), reports).answered(0)
    assert (load.at, reports.heard) == (100.0, [])
