"""How a client's connection ends.

The law: after a refusal, or an answer to an unfinished request, nothing more is read as a request: the rest is read and thrown
away for a while, so that the client gets to read the answer before the connection resets.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import CLOSE_LINE, length_line
from data_plane.exchange.replies import reply_for
from data_plane.http import limits
from data_plane.http.reading import CLOSED, LINGER, WAIT, RequestReader
from data_plane.http.timers import Deadline

if TYPE_CHECKING:
    from data_plane.http.listener import Gateway


@mypyc_attr(allow_interpreted_subclasses=True)
class EndingConnection(RequestReader):
    """Base of the connection, which says when."""

    __slots__ = ("_gateway", "_linger_until", "_loop", "_outbox", "_reading", "_transport")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = gateway.loop
        self._outbox = gateway.outbox
        self._transport: asyncio.Transport
        self._reading = True
        self._linger_until = 0.0
        super().__init__(Deadline(self._loop, self._expired))

    def _expired(self) -> None:
        """The peer took too long for what was due."""
        raise NotImplementedError

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _refuse(self, kind: str) -> None:
        """Answer what cannot become an exchange, and read no further request."""
        reply = reply_for(kind)
        counters = self._gateway.counters
        counters.requests += 1
        counters.responses[reply.status] += 1
        answer = b"%b%b%b\r\n%b" % (reply.head, length_line(len(reply.body)), CLOSE_LINE, reply.body)
        self._outbox.put(self._transport, answer)
        self._linger()

    def _finish(self) -> None:
        """The last response is out. What the client is still sending must be read, or its unread bytes reset the connection."""
        if self._state == WAIT and not self._buffer:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        now = self._loop.time()
        if self._state != LINGER:
            self._state = LINGER
            self._buffer = b""
            self._linger_until = now + limits.LINGER_SECONDS
            self._resume()
            self._outbox.flush()
            if self._transport.can_write_eof() and not self._transport.is_closing():
                # The client may have reset the connection, and asyncio not have told yet.
                with suppress(OSError):
                    self._transport.write_eof()
        self._deadline.set(min(limits.LINGER_IDLE_SECONDS, self._linger_until - now))

    def _close(self) -> None:
        """Close behind what is still to be written, if the client takes it in time."""
        self._state = CLOSED
        self._outbox.flush()
        self._transport.close()
        self._deadline.set(limits.SEND_SECONDS)
