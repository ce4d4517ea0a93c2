"""Two connections that have left HTTP behind: what one side sends, the other gets.

The law: bytes come out as they came in. A side that ends may still be sent to, and its end is passed on behind its last byte;
the tunnel closes when both have ended, when one is lost, and when neither has said a word for the idle time. A side is read no
faster than the other one takes it.

A lost side's last bytes still go out, and its loss looks like an end: the protocol inside has its own sign for a proper one
(RFC 6455, section 7.1.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from data_plane.http.limits import LINGER_IDLE_SECONDS
from data_plane.http.timers import Deadline

# What a connection's protocol has to hear when it is gone.
Lost = Callable[[Exception | None], None]


class Side(asyncio.Protocol):
    """One connection. `lost` is its former protocol's."""

    __slots__ = ("_lost", "_tunnel", "gone", "has_ended", "other", "transport")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, lost: Lost) -> None:
        self._tunnel = tunnel
        self._lost = lost
        self.transport = transport
        self.has_ended = False
        self.gone = False
        self.other: Side

    def data_received(self, data: bytes) -> None:
        self._tunnel.touch()
        transport = self.other.transport
        if not transport.is_closing():
            transport.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        return self._tunnel.pass_end(self)

    def pause_writing(self) -> None:
        self.other.pause()

    def resume_writing(self) -> None:
        self._tunnel.touch()
        self.other.resume()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._tunnel.lost(self)
        self._lost(error)

    def pause(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


class Tunnel:
    """Made with both transports paused or idle; `begin` starts it. `ended` is called once."""

    __slots__ = ("_deadline", "_ended", "_idle_seconds", "_sides")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: tuple[asyncio.Transport, Lost],
        upstream: tuple[asyncio.Transport, Lost],
        idle_seconds: float,
        ended: Callable[[], None],
    ) -> None:
        self._idle_seconds = idle_seconds
        self._ended: Callable[[], None] | None = ended
        self._deadline = Deadline(loop, self._expired)
        one, two = self._sides = Side(self, *client), Side(self, *upstream)
        one.other, two.other = two, one

    def begin(self, early: bytes, client_is_blocked: bool) -> None:
        """`early` is what the client has sent behind its request. A client that cannot be written to will say when it can."""
        self.touch()
        client, upstream = self._sides
        for side in self._sides:
            side.transport.set_protocol(side)
        if early:
            client.data_received(early)
        client.resume()
        if not client_is_blocked:
            upstream.resume()

    def touch(self) -> None:
        self._deadline.set(self._idle_seconds)

    def pass_end(self, side: Side) -> bool:
        """Whether the side's transport shall stay open for what the other one still sends."""
        other = side.other.transport
        if side.other.has_ended or not (other.can_write_eof() and side.transport.can_write_eof()):
            # TLS ends both directions at once.
            self._close()
            return False
        if not other.is_closing():
            other.write_eof()
        return True

    def lost(self, side: Side) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        if side.other.gone:
            self._deadline.close()
        else:
            self._close()

    def _close(self) -> None:
        """What is buffered still goes out, if it is taken in time."""
        for side in self._sides:
            # asyncio's own TLS forgets its connection when it is closed twice, and then cannot be aborted (CPython 3.11.2).
            if not side.transport.is_closing():
                side.transport.close()
        self._deadline.set(LINGER_IDLE_SECONDS)

    def _expired(self) -> None:
        if any(side.transport.is_closing() for side in self._sides):
            for side in self._sides:
                side.transport.abort()
        else:
            self._close()
