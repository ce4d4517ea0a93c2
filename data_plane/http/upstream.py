"""A connection to an upstream: bytes in, response events out.

The law: a connection goes back to the pool only when both messages are complete and nothing followed them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from data_plane.http.alive import is_quiet
from data_plane.http.outbox import TOGETHER
from data_plane.http.responses import CHUNKS, CLOSED, HEAD, IDLE, LENGTH, REST, ResponseReader
from data_plane.http.timers import NEVER, Deadline
from data_plane.upstream_tls.ending import has_said_so

if TYPE_CHECKING:
    from data_plane.exchange.requester import Requester
    from data_plane.http.pool import NodePool


class UpstreamConnection(ResponseReader):
    """Made connected by the pool, which lends it to one exchange at a time."""

    __slots__ = (
        "_blocked",
        "_loop",
        "_outbox",
        "_pool",
        "_reading",
        "_transport",
        "_unsent",
        "idle_since",
        "requests",
        "reused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: NodePool) -> None:
        super().__init__(Deadline(loop, self._expired))
        self._loop = loop
        self._pool = pool
        self._outbox = pool.outbox
        self._transport: asyncio.Transport
        self.requests = 0
        self.reused = False
        self.idle_since = 0.0
        self._reading = True
        self._blocked = False
        # What there was to write when that was looked at last.
        self._unsent = 0

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self._pool.node.host}:{self._pool.node.port} requests={self.requests}>"

    # The exchange's UpstreamPort.

    @property
    def heard(self) -> bool:
        return bool(self._buffer) or self._interim > 0

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        self.exchange = exchange
        self.requests += 1
        self._state = HEAD
        self._interim = 0
        # As `Outbox.put` does it.
        outbox = self._outbox
        outbox.append((self._transport, data))
        size = len(outbox)
        if size == 1 or size >= TOGETHER:
            outbox.due(size)
        if read_timeout:
            self._read_timeout = read_timeout
            # As `Deadline.set` does it, but for the call.
            deadline = self._deadline
            when = deadline.when = self._loop.time() + read_timeout
            if when < deadline.armed:
                deadline.arm(when)
        else:
            self._read_timeout = NEVER

    def send(self, data: bytes) -> None:
        self._outbox.put(self._transport, data)

    def await_response(self, read_timeout: float) -> None:
        self._read_timeout = read_timeout
        self._deadline.set(read_timeout)

    def pause_reading(self) -> None:
        if self._state != CLOSED and self._reading:
            self._reading = False
            self._transport.pause_reading()
            self._deadline.clear()

    def resume_reading(self) -> None:
        if self._state != CLOSED and not self._reading:
            self._reading = True
            self._transport.resume_reading()
            if self._read_timeout != NEVER:
                self._deadline.set(self._read_timeout)

    def release(self) -> None:
        self.exchange = None
        if self._state == CLOSED:
            return
        # A fresh connection that was opened for nothing has had no exchange (`requests` is 0), and is as good as new.
        if not self._whole and self.requests:
            self.close()
            return
        if not self._reading:
            self.resume_reading()
        self._deadline.when = NEVER
        self._state = IDLE
        self.reused = True
        pool = self._pool
        keepalive = pool.keepalive
        if self.requests >= keepalive.requests:
            self.close()
            return
        self.idle_since = pool.now
        pool.idle.append(self)
        if len(pool.idle) > keepalive.size:
            pool.idle.popleft().close()

    def drop(self) -> None:
        """Close it, idle as it is."""
        self._pool.forget(self)
        self.close()

    def close(self) -> None:
        self.exchange = None
        if self._state != CLOSED:
            self._state = CLOSED
            self._deadline.close()
            self._pool.closed()
            # Not `close`: nothing that is still buffered matters, and an aborted upload must not look like a complete one.
            self._transport.abort()

    def is_alive(self) -> bool:
        return self._state != CLOSED and is_quiet(self._transport)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.note(error)
        self._lost("upstream_closed")

    def eof_received(self) -> None:
        """The transport closes itself after this."""
        if self._state == REST and self.exchange is not None and has_said_so(self._transport.get_extra_info("ssl_object")):
            self._finish(b"")
        else:
            self._lost("upstream_closed")

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        if self.exchange is not None:
            self._deadline.set(self.exchange.send_timeout)
            self.exchange.upstream_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        if self.exchange is not None:
            self._deadline.clear()
            if self._read_timeout != NEVER:
                self._deadline.set(self._read_timeout)
            self.exchange.upstream_writable()

    def data_received(self, data: bytes) -> None:
        if self._state == HEAD:
            self._read_head(data)
        elif self._state == LENGTH:
            self._read_length(data)
        elif self._state == CHUNKS:
            self._read_chunks(data)
        elif self._state == REST and self.exchange is not None:
            self._touch()
            self.exchange.upstream_body(data, False)
        elif self._state == IDLE:
            # Nothing was asked: whatever it says belongs to no request.
            self._lost("upstream_bad_response")

    def leave(self) -> asyncio.Transport:
        """Give the connection up to a tunnel, which tells `connection_lost` and nothing else."""
        self.exchange = None
        self._read_timeout = NEVER
        self._deadline.clear()
        return self._transport

    # The end.

    def _expired(self) -> None:
        if not self._blocked:
            self._lost("upstream_read_timeout")
            return
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent < before and self.exchange is not None:
            # It reads, if slowly: the time is that between two writes, as in nginx.
            self._deadline.set(self.exchange.send_timeout)
        else:
            self._lost("upstream_send_timeout")

    def _lost(self, kind: str) -> None:
        if self._state == CLOSED:
            return
        exchange = self.exchange
        if self._state == IDLE and exchange is None:
            self._pool.forget(self)
        self.close()
        if exchange is not None:
            exchange.upstream_lost(kind)
