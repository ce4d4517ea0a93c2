"""The benchmark of native plugins: every route of it works, and what it prints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shared.limits.rows import MemoryRows
from shared.plugin.builtin import BUILTIN
from tests.bench_plugins.__main__ import IDLE, PLAIN, measure, table
from tests.bench_plugins.cases import CONSUMERS, TEN, UNMEASURED, cases
from tests.bench_plugins.driver import Driver, Serving, request_head, route_with


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def driver(name: str, loop: asyncio.AbstractEventLoop) -> Driver:
    plugins, fields = cases()[name]
    return Driver(name, Serving(route_with(plugins, MemoryRows(), CONSUMERS), loop), request_head(*fields))


@pytest.mark.parametrize("name", cases())
def test_requests_of_each_route_come_to_their_end(name: str, loop: asyncio.AbstractEventLoop) -> None:
    one = driver(name, loop)
    one.check()
    statuses = one.serving.counters.statuses()
    assert sum(statuses.values()) == 1
    assert set(statuses) <= {200, 301, 302}


def test_every_plugin_is_measured_or_named() -> None:
    assert {*cases(), *UNMEASURED} == {*(plugin.name for plugin in BUILTIN), "ten together"}
    assert len(set(TEN)) == 10


def test_a_route_whose_requests_fail_is_not_measured(loop: asyncio.AbstractEventLoop) -> None:
    plugins = {"fault-injection": {"abort": {"http_status": 503}}}
    failing = Driver("bad", Serving(route_with(plugins, MemoryRows(), {}), loop), request_head())
    with pytest.raises(RuntimeError, match="bad: its requests fail"):
        measure([failing], 1, 10)


def test_what_is_added_is_what_a_round_says(loop: asyncio.AbstractEventLoop) -> None:
    plain = Driver(PLAIN, Serving(route_with({}, MemoryRows(), {}), loop), request_head())
    figures = measure([plain, driver("cors", loop)], 3, 10)
    assert figures.keys() == {PLAIN, "cors"}


@pytest.mark.parametrize(("cost", "verdict"), [(9.0, "<= 10 yes"), (11.0, "<= 10 NO")])
def test_the_table_says_whether_what_is_required_holds(cost: float, verdict: str) -> None:
    lines = table({PLAIN: 8.0, IDLE: 1.0, "limit-count": cost}).splitlines()
    assert lines[-2].split() == ["limit-count", f"{cost:.2f}", *verdict.split()]
