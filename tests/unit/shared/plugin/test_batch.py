"""Batches: when they leave, what happens when nobody takes them, what is dropped, and that nothing is forgotten at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.plugin.batch import Batches, BatchLimits

# Never within a test.
LATER = 1000.0
QUIET: dict[str, Any] = {"inactive_timeout": LATER, "buffer_duration": LATER}


class Receiver:
    """`taken` are the batches; it refuses as many as `refusals`, and takes none before `open`."""

    def __init__(self, refusals: int = 0) -> None:
        self.taken: list[list[bytes]] = []
        self.tries = 0
        self.refusals = refusals
        self.open = asyncio.Event()
        self.open.set()
        self.reports: list[str] = []

    async def send(self, entries: Sequence[bytes]) -> None:
        self.tries += 1
        await self.open.wait()
        if self.refusals:
            self.refusals -= 1
            raise ConnectionError("gone")
        self.taken.append(list(entries))

    def report(self, error: BaseException) -> None:
        self.reports.append(str(error))


@asynccontextmanager
async def running(receiver: Receiver, **limits: Any) -> AsyncIterator[Batches]:  # noqa: ANN401 - as BatchLimits
    batches = Batches(BatchLimits(**limits), receiver.send, receiver.report)
    task = asyncio.create_task(batches.run())
    try:
        yield batches
    finally:
        batches.close()
        receiver.open.set()
        async with asyncio.timeout(5):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def test_a_full_batch_leaves_at_once() -> None:
    receiver = Receiver()
    async with running(receiver, max_size=2, **QUIET) as batches:
        for entry in (b"1", b"2", b"3"):
            batches.add(entry)
        await until(lambda: bool(receiver.taken))
        assert (receiver.taken, batches.pending) == ([[b"1", b"2"]], 1)
    assert receiver.taken == [[b"1", b"2"], [b"3"]]


@pytest.mark.parametrize("time", ["inactive_timeout", "buffer_duration"])
async def test_a_batch_leaves_when_its_time_has_come(time: str) -> None:
    receiver = Receiver()
    async with running(receiver, **{**QUIET, time: 0.01}) as batches:
        batches.add(b"1")
        await until(lambda: receiver.taken == [[b"1"]])
        batches.add(b"2")
        await until(lambda: receiver.taken == [[b"1"], [b"2"]])


async def test_a_batch_leaves_by_its_bytes() -> None:
    receiver = Receiver()
    async with running(receiver, max_bytes=10, **QUIET) as batches:
        for entry in (b"12345", b"67890", b"x" * 50, b"y"):
            batches.add(entry)
        await until(lambda: len(receiver.taken) == 2)
    assert receiver.taken == [[b"12345", b"67890"], [b"x" * 50], [b"y"]]


async def test_a_batch_that_is_not_taken_is_sent_again() -> None:
    receiver = Receiver(refusals=2)
    async with running(receiver, max_size=1, max_retry_count=2, retry_delay=0) as batches:
        batches.add(b"1")
        await until(lambda: receiver.taken == [[b"1"]])
    assert (receiver.tries, receiver.reports, batches.dropped) == (3, [], 0)


async def test_and_dropped_when_it_was_sent_often_enough() -> None:
    receiver = Receiver(refusals=2)
    async with running(receiver, max_size=1, max_retry_count=1, retry_delay=0) as batches:
        batches.add(b"1")
        await until(lambda: batches.dropped == 1)
        batches.add(b"2")
        await until(lambda: receiver.taken == [[b"2"]])
    assert receiver.reports == ["1 entries lost: gone"]
    assert (batches.sent, batches.pending) == (1, 0)


async def test_what_waits_is_bounded_and_nobody_waits_to_add() -> None:
    receiver = Receiver()
    receiver.open.clear()
    async with running(receiver, max_size=2, max_pending=4, **QUIET) as batches:
        for number in range(10):
            batches.add(b"%d" % number)
        await until(lambda: receiver.tries == 1)
        batches.add(b"x")
        assert (batches.pending, batches.dropped) == (4, 7)
    assert receiver.taken == [[b"0", b"1"], [b"2", b"3"]]
    assert receiver.reports == ["1 entries lost: too many entries are waiting"]


async def test_bytes_that_wait_are_bounded_too() -> None:
    receiver = Receiver()
    async with running(receiver, max_pending_bytes=10, **QUIET) as batches:
        for entry in (b"12345", b"67890", b"x"):
            batches.add(entry)
        assert batches.dropped == 1
    assert receiver.taken == [[b"12345", b"67890"]]
    assert batches._pending_bytes == 0


@pytest.mark.parametrize("on_its_way", [False, True])
async def test_a_worker_that_ends_leaves_nothing_behind(on_its_way: bool) -> None:
    receiver = Receiver()
    batches = Batches(BatchLimits(max_size=1 if on_its_way else 10, **QUIET), receiver.send, receiver.report)
    task = asyncio.create_task(batches.run())
    if on_its_way:
        receiver.open.clear()
    for entry in (b"1", b"2", b"3"):
        batches.add(entry)
    await asyncio.sleep(0)
    await until(lambda: receiver.tries == on_its_way)
    task.cancel()
    receiver.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry for batch in receiver.taken for entry in batch] == [b"1", b"2", b"3"]
    assert (batches.pending, batches._pending_bytes) == (0, 0)


async def test_a_worker_that_ends_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.plugin.batch.LAST_SECONDS", 0.01)
    receiver = Receiver()
    batches = Batches(BatchLimits(**QUIET), receiver.send, receiver.report)
    task = asyncio.create_task(batches.run())
    await asyncio.sleep(0)
    receiver.open.clear()
    batches.add(b"1")
    batches.add(b"2")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert receiver.reports == ["2 entries lost: TimeoutError"]


async def test_a_queue_that_is_empty_ends_at_once() -> None:
    receiver = Receiver()
    async with running(receiver, **QUIET) as batches:
        pass
    assert (receiver.tries, repr(batches)) == (0, "<Batches 0 pending, 0 sent, 0 dropped>")
