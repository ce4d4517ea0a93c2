"""A client in the clear that may speak either HTTP/1 or HTTP/2: its first bytes say which (RFC 9113 3.3).

The law: what begins as the preface is HTTP/2, anything else HTTP/1; as long as it may be both, it waits, no longer than for a
head. Then the connection is handed over with all its bytes, and this object is out of the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from data_plane.h2.frames import PREFACE
from data_plane.http import limits

if TYPE_CHECKING:
    from data_plane.http.listener import Gateway

# A connection: a protocol by its methods.
Make = Callable[["Gateway"], object]


class ChoosingConnection(asyncio.Protocol):
    """`http1` and `http2` make what it becomes, which is what is counted. Until then it is one of the gateway's clients."""

    def __init__(self, gateway: Gateway, http1: Make, http2: Make) -> None:
        self._gateway = gateway
        self._http1 = http1
        self._http2 = http2
        self._buffer = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ChoosingConnection {self._buffer!r}>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        gateway = self._gateway
        if len(gateway.clients) >= gateway.limit:
            # It says so, or whatever else there is to say when there are too many.
            self._become(self._http1)
            return
        gateway.clients.add(self)
        self._wait(limits.DRAIN_IDLE_SECONDS if gateway.draining else limits.HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        buffer = self._buffer
        if buffer.startswith(PREFACE):
            self._become(self._http2)
        elif not PREFACE.startswith(buffer):
            self._become(self._http1)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()
        self._gateway.dismiss(self)

    def _become(self, make: Make) -> None:
        self._leave()
        transport, data = self._transport, self._buffer
        protocol = cast(asyncio.Protocol, make(self._gateway))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Not before the loop has read once more, as for an idle client.
        self._timer = self._gateway.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = self._gateway.loop.call_later(limits.LAST_LOOK_SECONDS, self.stop)

    def _leave(self) -> None:
        self._gateway.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the gateway asks.

    @property
    def busy(self) -> int:
        return 0

    @property
    def stays(self) -> bool:
        return self._timer is not None

    def sweep(self, idle_sweeps: int, held_sweeps: int) -> None:
        """The timer does it."""

    def drain(self) -> None:
        """Its first request may be on its way."""
        if self._timer is not None:
            self._wait(limits.DRAIN_IDLE_SECONDS)

    def stop(self) -> None:
        self._transport.abort()
