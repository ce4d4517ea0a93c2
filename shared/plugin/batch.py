"""Entries on their way to somebody who may be slow or gone: gathered, sent in batches, sent again, and dropped in the end.

The law: whoever adds an entry never waits and never fails; what is held is bounded, and what does not fit any more is dropped
and counted. A batch leaves when it is full, when nothing has come for `inactive_timeout`, or `buffer_duration` after its first
entry; when the worker ends, or the configuration goes, what is left leaves at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

# For the last batches of a worker that ends.
LAST_SECONDS = 3.0
# A receiver that is gone is reported so often at most.
REPORT_SECONDS = 10.0
# Of all that waits for one receiver, whatever the number of its entries.
PENDING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Times in seconds. A batch has at most `max_bytes`, unless a single entry has more."""

    max_size: int = 1000
    inactive_timeout: float = 5
    buffer_duration: float = 60
    max_retry_count: int = 0
    retry_delay: float = 1
    max_pending: int = 8192
    max_bytes: int = PENDING_BYTES
    max_pending_bytes: int = PENDING_BYTES


class DeliveryFailed(Exception):
    """The receiver has not taken a batch; the message says why."""


Send = Callable[[Sequence[bytes]], Awaitable[None]]


class Batches:
    """`send` raises when a batch was not taken; `report` is told what was lost, now and then. `run` is the work beside
    requests."""

    def __init__(self, limits: BatchLimits, send: Send, report: Callable[[BaseException], None]) -> None:
        self._limits = limits
        self._send = send
        self._report = report
        self._entries: list[bytes] = []
        self._sending: list[bytes] = []
        self._bytes = self._pending_bytes = 0
        self._first = self._last = 0.0
        self._ready = asyncio.Event()
        self._delivery: asyncio.Task[None] | None = None
        self._closed = self._ending = False
        self._lost = 0
        self._reported = -REPORT_SECONDS
        self.dropped = 0
        self.sent = 0

    def __repr__(self) -> str:
        return f"<Batches {self.pending} pending, {self.sent} sent, {self.dropped} dropped>"

    @property
    def pending(self) -> int:
        return len(self._entries) + len(self._sending)

    def add(self, entry: bytes) -> None:
        entries, limits, now = self._entries, self._limits, time.monotonic()
        if self.pending >= limits.max_pending or self._pending_bytes + len(entry) > limits.max_pending_bytes:
            self._lose(1, DeliveryFailed("too many entries are waiting"))
            return
        if not entries:
            self._first = now
        self._last = now
        entries.append(entry)
        self._bytes += len(entry)
        self._pending_bytes += len(entry)
        if len(entries) == 1 or self._is_full():
            self._ready.set()

    def close(self) -> None:
        """Nothing more is added: send what there is, and end."""
        self._closed = True
        self._ready.set()

    async def run(self) -> None:
        try:
            while await self._due():
                # What is on its way arrives once, also when the worker ends meanwhile.
                self._delivery = asyncio.create_task(self._deliver(), name="batch")
                await asyncio.shield(self._delivery)
        except asyncio.CancelledError:
            await self._end()
            raise

    def _is_full(self) -> bool:
        return len(self._entries) >= self._limits.max_size or self._bytes >= self._limits.max_bytes

    async def _due(self) -> bool:
        """Wait for a batch; False when there will be none."""
        limits = self._limits
        while not (self._closed or self._is_full()):
            self._ready.clear()
            if not self._entries:
                await self._ready.wait()
                continue
            left = min(self._first + limits.buffer_duration, self._last + limits.inactive_timeout) - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._ready.wait()
            except TimeoutError:
                continue
        return bool(self._entries)

    async def _deliver(self) -> None:
        """One batch, as often as it takes or is allowed."""
        self._take()
        attempt = 0
        while True:
            try:
                await self._send(self._sending)
            except Exception as error:  # whatever a receiver does
                attempt += 1
                if attempt > self._limits.max_retry_count or self._ending:
                    self._lose(len(self._sending), error)
                    break
                await asyncio.sleep(self._limits.retry_delay)
            else:
                self.sent += len(self._sending)
                break
        self._pending_bytes -= sum(map(len, self._sending))
        self._sending = []

    def _take(self) -> None:
        """The next batch, from the front."""
        entries, size = self._entries, 0
        count = min(len(entries), self._limits.max_size)
        for number in range(count):
            size += len(entries[number])
            if size >= self._limits.max_bytes:
                count = number + 1
                break
        self._sending, self._entries = entries[:count], entries[count:]
        self._bytes -= sum(map(len, self._sending))
        self._first = time.monotonic()

    async def _end(self) -> None:
        """The worker ends: all that is left, each batch once."""
        self._ending = True
        self._reported = -REPORT_SECONDS
        try:
            async with asyncio.timeout(LAST_SECONDS):
                if self._delivery is not None:
                    await self._delivery
                while self._entries:
                    await self._deliver()
        except TimeoutError as error:
            self._lose(self.pending, error)

    def _lose(self, count: int, error: BaseException) -> None:
        self.dropped += count
        self._lost += count
        now = time.monotonic()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            lost, self._lost = self._lost, 0
            self._report(DeliveryFailed(f"{lost} entries lost: {str(error) or type(error).__name__}"))
