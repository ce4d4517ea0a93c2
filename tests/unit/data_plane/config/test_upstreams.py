"""What an upstream says reaches its balancer, and what its balancer knows outlives its versions."""

from __future__ import annotations

from typing import Any

import pytest

from data_plane.balance.balancer import Balancer
from data_plane.balance.health import NodeAddresses, NodeHealth
from data_plane.config.snapshot import Node, Upstream
from data_plane.config.upstreams import UpstreamTable
from shared.schema.resources import RESOURCES, validate
from shared.schema.upstream import UpstreamSpec

NODES = {"10.0.0.1:80": 1, "10.0.0.2:80": 1}


class Watchers:
    """Watch nobody; keep who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def health(self, upstream: str, spec: UpstreamSpec) -> NodeHealth | None:
        self.asked.append(f"health of {upstream}")
        return None

    def addresses(self, upstream: str, nodes: tuple[Node, ...]) -> NodeAddresses | None:
        self.asked.append(f"addresses of {upstream}")
        return None

    def forget(self, upstream: str) -> None:
        self.asked.append(f"forget {upstream}")


def spec(document: dict[str, Any]) -> UpstreamSpec:
    found = validate(RESOURCES["upstreams"].model, document)
    assert isinstance(found, UpstreamSpec)
    return found


def compiled(table: UpstreamTable, **fields: object) -> tuple[Upstream, Balancer]:
    upstream = table.compile("upstream/1", spec({"nodes": NODES, **fields}))
    table.settle()
    assert upstream is not None
    assert isinstance(upstream.picker, Balancer)
    return upstream, upstream.picker


@pytest.mark.parametrize(
    ("fields", "at_once", "is_watched"),
    [
        ({}, True, False),
        ({"type": "roundrobin", "retries": 3}, True, False),
        ({"retry_timeout": 2}, False, False),
        ({"type": "chash", "key": "uri"}, False, False),
        ({"type": "least_conn"}, False, True),
        ({"type": "ewma"}, False, True),
    ],
)
def test_the_balancer_of_an_upstream(fields: dict[str, Any], at_once: bool, is_watched: bool) -> None:
    upstream, picker = compiled(UpstreamTable(), **fields)
    assert (picker.at_once, picker.begin(picker.nodes[0]) is not None) == (at_once, is_watched)
    assert (upstream.retries, upstream.retry_timeout) == (fields.get("retries"), fields.get("retry_timeout", 0.0))


def test_priorities_of_nodes() -> None:
    nodes = [{"host": "a.test", "weight": 1, "priority": 2}, {"host": "b.test", "weight": 1, "priority": -1}]
    _, picker = compiled(UpstreamTable(), nodes=nodes, type="least_conn")
    first = picker.choose(b"", ())
    assert first is not None
    assert (first.host, first.priority) == ("a.test", 2)
    second = picker.choose(b"", (first,))
    assert second is not None
    assert (second.host, second.priority) == ("b.test", -1)


@pytest.mark.parametrize(
    "change",
    [
        {"timeout": {"connect": 1, "send": 1, "read": 1}},
        {"retries": 1},
        {"nodes": {**NODES, "10.0.0.3:80": 1}},
        {"nodes": {"10.0.0.1:80": 5, "10.0.0.2:80": 1}},
    ],
)
def test_what_is_in_flight_outlives_a_change(change: dict[str, Any]) -> None:
    table = UpstreamTable()
    _, before = compiled(table, type="least_conn")
    attempts = [before.begin(before.nodes[0]) for _ in range(50)]
    _, after = compiled(table, type="least_conn", **change)
    assert after is not before
    chosen = after.choose(b"", ())
    assert chosen is not None
    assert chosen.host != "10.0.0.1"
    for attempt in attempts:
        assert attempt is not None
        attempt.end()
    assert {node.host for _ in range(2) if (node := after.choose(b"", ())) is not None} >= {"10.0.0.1"}


def test_a_change_that_says_the_same_keeps_the_balancer() -> None:
    table = UpstreamTable()
    _, before = compiled(table, type="ewma")
    _, after = compiled(table, type="ewma", desc="only people read this")
    assert after is before


def test_an_upstream_that_goes_is_forgotten_by_who_watches_it() -> None:
    watchers = Watchers()
    table = UpstreamTable(watchers)
    compiled(table)
    table.forget("upstream/1")
    table.forget("upstream/1")
    assert watchers.asked == ["health of upstream/1", "addresses of upstream/1", "forget upstream/1"]
