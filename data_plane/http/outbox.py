"""What connections have to write, written together at the end of a round of the event loop.

The law: order is kept, and nothing waits longer than the round in which it came. Whoever closes a transport flushes first.

A round takes what is ready, some fifteen messages on a busy worker. A write for each as it comes wakes its receiver, who is
done and asleep again before the next one; written together they find it awake. Measured with 32 connections on two cores: 1.6
wake-ups a request become 0.2, and a wake-up costs 6 to 13 us.
"""

from __future__ import annotations

import asyncio
from collections import deque

# A receiver should not wait for the whole of a long round.
TOGETHER = 16


class Outbox(deque[tuple[asyncio.WriteTransport, bytes]]):
    """Of one event loop. The busiest writers append by themselves and, with 1 or `TOGETHER` in it, call `due`."""

    __slots__ = ("_call_soon",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._call_soon = loop.call_soon

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        self.append((transport, data))
        size = len(self)
        if size == 1 or size >= TOGETHER:
            self.due(size)

    def due(self, size: int) -> None:
        if size == 1:
            self._call_soon(self.flush)
        else:
            self.flush()

    def flush(self) -> None:
        """Writes that a write leads to come behind those that are here."""
        while self:
            transport, data = self.popleft()
            if not transport.is_closing():
                transport.write(data)
