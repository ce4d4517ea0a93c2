"""Counters of limits between real processes, and what becomes of them when memory is full or a worker dies."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.limits.bucket import LeakyBucket
from shared.limits.gauge import Gauge
from shared.limits.rows import LimitsFailed
from shared.limits.windows import FixedWindow
from shared.proxy_wasm.state.directory import HostStateError, discard
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.limits import LimitRows
from tests.support.command import wait_until
from tests.support.limits import KEY, counting


@pytest.fixture
def directory() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made) / "state"


@pytest.fixture
def state(directory: Path) -> Iterator[HostState]:
    state = HostState(directory)
    yield state
    state.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_four_processes_that_hammer_let_no_more_through_than_the_count(directory: Path) -> None:
    with counting("hammer", directory, 2000, 1000, processes=4) as workers:
        passed = [list(map(int, one.line())) for one in workers]
    # A sliding window may begin anew at the turn of an hour; a fixed one begins once.
    assert sum(fixed for fixed, _ in passed) == 2000
    assert 2000 <= sum(sliding for _, sliding in passed) <= 2001
    assert sum(fixed > 0 for fixed, _ in passed) > 1


def test_what_a_killed_worker_occupied_is_given_back(directory: Path, state: HostState) -> None:
    rows = LimitRows(directory, state.worker)
    gauge = Gauge(10, rows.worker, rows.is_alive)
    assert rows.change(KEY, gauge.enter) == 1
    with counting("occupy", directory, 10, 20, processes=2) as workers:
        assert sum(int(one.line()[0]) for one in workers) == 9
        assert rows.change(KEY, gauge.enter) is None
        for one in workers:
            one.kill()
        state.tend()
        assert rows.change(KEY, gauge.enter) == 2
    assert [rows.change(KEY, gauge.leave), rows.change(KEY, gauge.leave)] == [1, 0]
    assert rows.statistics()["rows"] == 0
    rows.close()


def test_gauges_of_the_dead_are_cleared_when_the_next_worker_comes(directory: Path, state: HostState) -> None:
    with counting("occupy", directory, 10, 3) as (worker,):
        assert worker.line() == ["3"]
        worker.kill()
    state.tend()
    rows = LimitRows(directory, state.worker)
    assert rows.statistics()["rows"] == 0
    rows.close()


def test_a_worker_killed_while_it_counts_leaves_rows_that_can_be_used(directory: Path, state: HostState) -> None:
    rows = LimitRows(directory, state.worker)
    window = FixedWindow(10**9, 3600)
    for _ in range(3):
        with counting("churn", directory, 3000, 10**9) as (worker,):
            assert worker.line() == ["counting"]
            wait_until(lambda: rows.statistics()["rows"] > 500, "rows to be there")
            worker.kill()
        assert rows.change(b"0", window.take)[0] > 0
        # It clears what it lists, and lists what it has.
        found = rows.statistics()
        assert found["rows"] == found["listed"]
    rows.close()


def test_rows_that_have_expired_go_as_fast_as_others_come(directory: Path, state: HostState) -> None:
    clock = Clock()
    rows = LimitRows(directory, state.worker, clock=clock)
    window = FixedWindow(5, 10)
    for number in range(8_000):
        clock.now += 0.01
        rows.change(b"%d" % number, window.take)
        rows.change(b"of everybody", LeakyBucket(1, 10**9).add)
    assert rows.statistics()["rows"] <= 1002
    assert rows.statistics()["listed"] <= 1003
    assert rows.change(b"7999", window.take) == (3, 10)
    rows.close()


def test_when_memory_is_full_those_go_that_would_expire_first(directory: Path, state: HostState) -> None:
    rows = LimitRows(directory, state.worker, size=1 << 20)
    assert rows.change(b"long", FixedWindow(100, 7200).take)[0] == 99
    for number in range(8_000):
        assert rows.change(b"%d" % number, FixedWindow(100, 3600).take)[0] == 99
    found = rows.statistics()
    assert found["evicted"] > 100
    assert found["pages"] <= found["pages_limit"] + 8
    assert rows.change(b"long", FixedWindow(100, 7200).take)[0] == 98
    rows.close()


def test_a_step_that_raises_changes_nothing(directory: Path, state: HostState) -> None:
    rows = LimitRows(directory, state.worker)

    def breaks(row: bytes | None, now: float) -> tuple[bytes | None, None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rows.change(KEY, breaks)
    assert rows.change(KEY, FixedWindow(2, 10).take)[0] == 1
    rows.close()
    with pytest.raises(LimitsFailed):
        rows.change(KEY, FixedWindow(2, 10).take)


def test_the_directory_goes_with_its_counters(directory: Path) -> None:
    state = HostState(directory)
    LimitRows(directory, state.worker).close()
    state.close()
    discard(directory)
    assert not directory.exists()


def test_where_there_is_no_memory_there_are_no_counters(
    directory: Path, state: HostState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.proxy_wasm.state.limits.bytes_available", lambda directory: 1 << 20)
    with pytest.raises(HostStateError, match="not enough for counters"):
        LimitRows(directory, state.worker)
