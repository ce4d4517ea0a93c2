"""The state of a host for one who is no worker: what living workers say of themselves, and numbers that only grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm.state.directory import discard
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.metric_table import MetricKind
from shared.proxy_wasm.state.reader import StateReader
from tests.support.host_state import assert_consistent, roles, told


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def reader(directory: Path) -> Iterator[StateReader]:
    reader = StateReader(directory)
    yield reader
    reader.close()


def test_reports_and_numbers_of_workers_that_live_and_of_one_that_left(directory: Path, reader: StateReader) -> None:
    with roles() as start:
        assert (reader.reports(), reader.gateway_metrics()) == ([], [])
        first, second = start(told, directory, "a", 3), start(told, directory, "b", 4)
        assert [first.line(), second.line()] == ["told", "told"]
        assert sorted(reader.reports()) == [b"a", b"b"]
        (requests,) = reader.gateway_metrics()
        assert (requests.name, requests.kind, requests.value) == ("requests", MetricKind.COUNTER, 7)
        assert reader.plugin_metrics() == []
        first.kill()
        assert reader.reports() == [b"b"], "nobody has buried it yet"
        second.go()
        second.rest()
        assert reader.reports() == []
        (requests,) = reader.gateway_metrics()
        assert requests.value == 7
        third = start(told, directory, "c", 1)
        assert third.line() == "told"
        assert reader.gateway_metrics()[0].value == 8
        third.kill()
        last = start(told, directory, "d", 1)
        assert last.line() == "told"
        assert_consistent(reader._environment)
        last.kill()


def test_a_state_that_was_made_anew_is_noticed(directory: Path, reader: StateReader) -> None:
    assert reader.is_current()
    discard(directory)
    assert not reader.is_current()
    with roles() as start:
        worker = start(told, directory, "a", 1)
        assert worker.line() == "told"
        assert not reader.is_current()
        worker.kill()


def test_what_plugins_and_gateway_call_the_same_stays_apart(tmp_path: Path) -> None:
    state = HostState(tmp_path / "own")
    try:
        gateway = state.gateway.stat(MetricKind.COUNTER, b"same")
        plugin = state.metrics.stat(MetricKind.COUNTER, b"same")
        assert gateway is not None
        assert plugin is not None
        gateway.numbers[0], plugin.numbers[0] = 1, 2
        state.tend()
        assert [metric.value for metric in state.collect()] == [2]
        assert state.metrics.value(plugin) == 2
        assert state.gateway.value(gateway) == 1
    finally:
        state.close()
