"""The state of a host between real processes: writers that collide, workers that are killed, events that change hands."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.census import bury
from shared.proxy_wasm.state.directory import HostStateError, discard
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.prometheus import render
from tests.support.command import wait_until
from tests.support.host_state import (
    COUNTER,
    VM,
    Role,
    add_one,
    assert_consistent,
    cas_writers,
    counting,
    hold,
    killed_writers,
    look,
    poller,
    producer,
    registrant,
    roles,
)

Start = Callable[..., Role]


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, where it lies in service; elsewhere on a system without."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made) / "state"


@pytest.fixture
def start() -> Iterator[Start]:
    with roles() as start:
        yield start


@pytest.fixture
def state(directory: Path) -> Iterator[HostState]:
    state = HostState(directory)
    yield state
    state.close()


def test_eight_cas_writers_in_four_processes_lose_no_update(start: Start, directory: Path, state: HostState) -> None:
    times = 500
    # Where there is no entry yet every writer may be the first: an ABI that has no "set if absent".
    state.data.set(VM, COUNTER, b"0")
    processes = [start(cas_writers, directory, 2, times) for _ in range(4)]
    assert [process.line() for process in processes] == ["ready"] * 4
    for process in processes:
        process.go()
    mismatches = sum(int(process.rest()[0]) for process in processes)
    assert state.data.get(VM, COUNTER) == (b"%d" % (8 * times), 8 * times + 1)
    # They did collide.
    assert mismatches > 0


def test_a_writer_killed_while_it_writes_leaves_nothing_of_it(start: Start, directory: Path, state: HostState) -> None:
    state.data.set(VM, b"before", b"whole")
    writer = start(hold, directory)
    assert writer.line() == "holding"
    writer.kill()
    assert state.data.set(VM, b"after", b"too") is Status.OK
    assert state.data.statistics()["entries"] == 2
    assert_consistent(state.environment)


def test_a_reader_killed_while_it_reads_gives_its_place_back(start: Start, directory: Path, state: HostState) -> None:
    reader = start(look, directory)
    assert reader.line() == "looking"
    reader.kill()
    assert state.environment.release_dead_readers() == 1
    assert state.environment.release_dead_readers() == 0


def test_writers_killed_anywhere_leave_it_consistent_and_the_others_going(
    start: Start, directory: Path, state: HostState
) -> None:
    killer = start(killed_writers, directory, 100)
    steps, added = add_one(state), 0
    while killer.process.poll() is None:
        added += next(steps)
        if not added % 500:
            state.tend()
            assert_consistent(state.environment)
    assert killer.rest() == ["100"]
    assert added > 100
    counter = state.data.get(VM, COUNTER)
    assert counter is not None
    assert counter[0] == b"%d" % added
    bury(state.environment, state.worker)
    assert_consistent(state.environment)
    assert [path.name for path in directory.glob("worker-*")] == [f"worker-{state.worker.number}"]
    (writes,) = state.collect()
    assert writes.value > 100
    assert state.environment.statistics()["failures"] == 0


def test_items_of_two_producers_reach_two_consumers_once_and_each_makes_one_event(start: Start, directory: Path) -> None:
    items = 1000
    first = start(registrant, directory, 1, 0)
    assert first.line() == "ready"
    told, untold = start(registrant, directory, 2, 1), start(poller, directory)
    assert [told.line(), untold.line()] == ["ready", "ready"]
    for made in [start(producer, directory, tag, items) for tag in ("a", "b")]:
        made.rest()
    events = [told.line() for _ in range(2 * items)]
    state = HostState(directory)
    queue = state.queues.resolve(VM, b"queue")
    assert queue is not None
    # It leaves before the end is told, to the first registrant.
    told.go()
    assert told.rest() == []
    state.queues.enqueue(queue, b"end")
    received = [line.split() for line in [*events, *untold.rest()]]
    names = Counter(name for _, name in received if name not in ("-", "end"))
    assert names == Counter({f"{tag}{number}": 1 for tag in ("a", "b") for number in range(items)})
    for side in ("event", "item"):
        for tag in ("a", "b"):
            order = [int(name[1:]) for kind, name in received if kind == side and name.startswith(tag)]
            assert order == sorted(order)
    # Which was told of nothing else.
    first.go()
    assert first.rest() == ["event -"]
    assert_consistent(state.environment)
    state.close()


def test_a_killed_registrants_events_go_to_the_next(start: Start, directory: Path, state: HostState) -> None:
    doomed = start(registrant, directory, 1, 0)
    assert doomed.line() == "ready"
    queue = state.queues.resolve(VM, b"queue")
    assert queue is not None
    state.queues.enqueue(queue, b"first")
    assert doomed.line() == "event -"
    doomed.kill()
    for item in (b"second", b"third"):
        assert state.queues.enqueue(queue, item) is Status.OK
    heir = start(registrant, directory, 2, 1)
    assert [heir.line() for _ in range(4)] == ["ready", "event first", "event second", "event third"]
    state.queues.enqueue(queue, b"fourth")
    assert heir.line() == "event fourth"
    heir.go()
    assert heir.rest() == []


def test_a_killed_registrants_events_go_to_one_that_is_there(start: Start, directory: Path, state: HostState) -> None:
    heir = start(registrant, directory, 1, 1)
    assert heir.line() == "ready"
    doomed = start(registrant, directory, 2, 0)
    assert doomed.line() == "ready"
    queue = state.queues.resolve(VM, b"queue")
    assert queue is not None
    state.queues.enqueue(queue, b"told in vain")
    assert doomed.line() == "event -"
    doomed.kill()
    state.tend()
    assert heir.line() == "event told in vain"


def test_metrics_of_workers_are_summed_while_they_live_and_when_they_are_killed(
    start: Start, directory: Path, state: HostState
) -> None:
    def sums() -> list[int]:
        counter, gauge, histogram = state.collect()
        return [counter.value, gauge.value, histogram.count, histogram.sum]

    workers = [start(counting, directory, 10) for _ in range(3)]
    assert [worker.line() for worker in workers] == ["flushed"] * 3
    assert sums() == [60, 6, 30, 60]
    workers[0].kill()
    state.tend()
    assert sums() == [60, 4, 30, 60]
    # One that leaves in order loses nothing that it counted.
    workers[1].go()
    workers[1].rest()
    assert sums() == [1060, 2, 30, 60]
    page = render(state.collect())
    assert 'm{route="r0"} 1060\n' in page
    assert re.search(r'm_histogram_bucket\{route="r2",le="5"\} 30\n', page)


def test_a_directory_in_use_is_not_discarded(start: Start, directory: Path) -> None:
    worker = start(look, directory)
    assert worker.line() == "looking"
    with pytest.raises(HostStateError, match="still used by worker-1"):
        discard(directory)
    worker.kill()
    wait_until(lambda: worker.process.poll() is not None, "the worker's end")
    discard(directory)
    assert not directory.exists()
