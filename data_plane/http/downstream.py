"""A connection from a client: the exchange's words out as bytes, and the life of the connection around its requests.

The law: one request is answered at a time, in order; bytes behind it wait.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, cast

from mypy_extensions import mypyc_attr

from data_plane.exchange.messages import RequestHead
from data_plane.exchange.opening import open_exchange
from data_plane.exchange.upgrade import Upgrading, open_upgrade
from data_plane.http import limits
from data_plane.http.ending import EndingConnection
from data_plane.http.forwarded import forwarding_for
from data_plane.http.outbox import TOGETHER
from data_plane.http.reading import CHUNKS, CLOSED, HEAD, LENGTH, LINGER, SPENT, WAIT
from data_plane.http.tunnel import Tunnel

if TYPE_CHECKING:
    from data_plane.exchange.exchange import Exchange
    from data_plane.exchange.ports import Serving, UpstreamPort
    from data_plane.http.listener import Gateway
    from data_plane.http.upstream import UpstreamConnection
    from shared.proxy_wasm.tls_properties import TlsFacts


# How long a client that reads again may take for what is due next.
_PATIENCE = {
    LENGTH: lambda: limits.BODY_IDLE_SECONDS,
    CHUNKS: lambda: limits.BODY_IDLE_SECONDS,
    LINGER: lambda: limits.LINGER_IDLE_SECONDS,
    CLOSED: lambda: limits.SEND_SECONDS,
}


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientConnection(EndingConnection):
    """One per accepted connection; it is also its exchanges' ClientPort."""

    __slots__ = (
        "_blocked",
        "_body_mark",
        "_exchange",
        "_held",
        "_requests_seen",
        "_sweeps",
        "client_address",
        "connection_id",
        "local_address",
        "tls",
    )

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._exchange: Exchange | None = None
        self._requests_seen = 0
        self._sweeps = 0
        self._held: object = None
        # Of a body of known length: its request, what was left of it at the first of some looks, and how many these are.
        self._body_mark = (0, 0, 0)
        self._blocked = False
        self.connection_id = 0
        self.client_address = ("", 0)
        self.local_address = ("", 0)
        self.tls: TlsFacts | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self.client_address} requests={self._requests} state={self._state}>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        self.client_address = (peer[0], peer[1])
        self.local_address = (local[0], local[1])
        self.tls = transport.get_extra_info("tls")
        self._forwarded = forwarding_for(self, "https" if self.tls else "http", self._gateway.trust).lines
        self._deadline.set(limits.HEAD_SECONDS)
        self.connection_id = self._gateway.admit(self)
        if not self.connection_id:
            self._refuse("overloaded")
            # No lingering: what is short is files.
            self._close()
        elif self._gateway.draining:
            self.drain()

    def connection_lost(self, error: Exception | None) -> None:
        self._gateway.dismiss(self)
        self._deadline.close()
        # It holds this connection, and a circle of them waits for the garbage collector: 6 KiB for each client that leaves.
        self._parser = SPENT
        self._state = CLOSED
        exchange = self._exchange
        self._exchange = None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """A client that closes its half is taken to have left; the transport closes itself after this."""
        exchange = self._exchange
        self._exchange = None
        self._state = CLOSED
        self._deadline.set(limits.SEND_SECONDS)
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._blocked = True
        self._deadline.set(limits.SEND_SECONDS)
        if self._exchange is not None:
            self._exchange.client_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        patience = _PATIENCE.get(self._state)
        if patience is None:
            self._deadline.clear()
        else:
            self._deadline.set(patience())
        if self._exchange is not None:
            self._exchange.client_writable()
        elif self._state == HEAD:
            self._next()

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == HEAD:
            self._read_head(data)
        elif state in (LENGTH, CHUNKS):
            self._read_body(data)
        elif state == WAIT:
            self._buffer += data
            if len(self._buffer) > limits.PIPELINE_BYTES:
                self._pause()
        elif state == LINGER:
            self._linger()

    # The exchange's ClientPort.

    def send(self, data: bytes) -> None:
        self._outbox.put(self._transport, data)

    def pause_body(self) -> None:
        if self._state in (LENGTH, CHUNKS):
            self._pause()
            self._deadline.clear()

    def resume_body(self) -> None:
        self._resume()
        if self._state in (LENGTH, CHUNKS):
            self._deadline.set(limits.BODY_IDLE_SECONDS)

    def finish(self, data: bytes, keep_alive: bool) -> None:
        if data:
            # As `Outbox.put` does it.
            outbox = self._outbox
            outbox.append((self._transport, data))
            size = len(outbox)
            if size == 1 or size >= TOGETHER:
                outbox.due(size)
        self._exchange = None
        if not keep_alive:
            self._finish()
        elif self._state == WAIT:
            self._state = HEAD
            if self._buffer or self._blocked or self._gateway.draining:
                self._next()

    def cut(self, hard: bool) -> None:
        self._exchange = None
        if hard:
            self._state = CLOSED
            # Lingering for no time is what makes the kernel send a reset.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._outbox.flush()
            self._transport.abort()
        else:
            self._close()

    def tunnel(self, data: bytes, upstream: UpstreamPort, idle_seconds: float) -> None:
        self._outbox.put(self._transport, data)
        self._outbox.flush()
        early, self._buffer = self._buffer, b""
        self._deadline.clear()
        self._resume()
        conn = cast("UpstreamConnection", upstream)
        one, two = (self._transport, self.connection_lost), (conn.leave(), conn.connection_lost)
        Tunnel(self._loop, one, two, idle_seconds, self._tunnel_ended).begin(early, self._blocked)

    def _tunnel_ended(self) -> None:
        exchange = self._exchange
        self._exchange = None
        self._state = CLOSED
        if isinstance(exchange, Upgrading):
            exchange.tunnel_ended()

    def unix_time_ns(self) -> int:
        return time.time_ns()

    # What the gateway asks.

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer is still to be written."""
        return self._exchange is not None or (self._state == CLOSED and self._transport.get_write_buffer_size() > 0)

    @property
    def stays(self) -> bool:
        return bool(self.busy) or (self._state == HEAD and not self._buffer)

    def sweep(self, idle_sweeps: int, held_sweeps: int) -> None:
        """Looked at every now and then: close if no request came since so many looks ago, and answer what plugins have held,
        without a byte of progress, for so many looks.
        """
        if self._state == LENGTH:
            self._watch_body()
        exchange = self._exchange
        held = None if exchange is None else exchange.held()
        if exchange is not None and held is not None and (self._requests, held) == self._held:
            self._sweeps += 1
            if self._sweeps >= held_sweeps:
                self._held = None
                exchange.held_too_long()
            return
        self._held = None if held is None else (self._requests, held)
        if self._state != HEAD or self._buffer or self._requests != self._requests_seen:
            self._requests_seen = self._requests
            self._sweeps = 0
            return
        self._sweeps += 1
        # Before the first request the head's deadline rules.
        if self._sweeps > idle_sweeps and self._requests:
            self._expired()

    def _watch_body(self) -> None:
        """End a request whose body drips, unless it is us who do not read."""
        request, left, looks = self._body_mark
        if request != self._requests or not self._reading:
            left, looks = self._remaining, 0
        elif looks == limits.BODY_LOOKS:
            if left - self._remaining < limits.BODY_BYTES_BETWEEN_LOOKS * looks:
                self._expired()
            left, looks = self._remaining, 0
        self._body_mark = (self._requests, left, looks + 1)

    @property
    def held_head(self) -> int:
        """Bytes of a head that is not complete."""
        return len(self._buffer) if self._state == HEAD else 0

    def give_up_head(self) -> None:
        self._refuse("memory_short")

    def drain(self) -> None:
        """The worker is going away: close if nothing is asked soon."""
        if self._state == HEAD and not self._buffer and self._deadline.when > self._loop.time() + limits.DRAIN_IDLE_SECONDS:
            self._deadline.set(limits.DRAIN_IDLE_SECONDS)

    def stop(self) -> None:
        """The worker's time is over."""
        self._outbox.flush()
        self._transport.abort()

    # Reading.

    def _next(self) -> None:
        """Ready for a request: one that is here already is taken in the loop's next round, not deeper in this stack."""
        if self._blocked:
            return
        if self._buffer:
            self._deadline.set(limits.HEAD_SECONDS)
            self._resume()
            self._loop.call_soon(self._read_buffered)
        elif self._gateway.draining:
            self.drain()  # not `_close`: its last answer has not said so, and the client may be asking by now

    def _read_buffered(self) -> None:
        if self._state == HEAD and self._buffer and not self._fed:
            data = self._buffer
            self._buffer = b""
            self._read_head(data)

    def _begin(self, request: RequestHead, body: bytes) -> None:
        gateway = self._gateway
        gateway.counters.requests += 1
        exchange = self._exchange = open_exchange(gateway, self, request)
        exchange.start(body, self._state == WAIT)

    def _begin_upgrade(self, request: RequestHead) -> None:
        self._gateway.counters.requests += 1
        self._open_upgrade(self._gateway, request)

    def _open_upgrade(self, serving: Serving, request: RequestHead) -> None:
        exchange = self._exchange = open_upgrade(serving, self, request)
        exchange.start(b"", True)

    def _continue(self, body: bytes, eos: bool) -> None:
        if self._exchange is not None:
            self._exchange.request_body(body, eos)

    def _end(self, trailers: bytes) -> None:
        if self._exchange is not None:
            self._exchange.request_trailers(trailers)

    def _wants_trailers(self) -> bool:
        return bool(self._gateway.snapshot.plugins)

    def _break(self, kind: str) -> None:
        if self._exchange is not None:
            self._exchange.client_failed(kind)

    # The end.

    def _expired(self) -> None:
        state = self._state
        exchange = self._exchange
        if self._blocked or state in (LINGER, CLOSED, WAIT):
            self._transport.abort()
        elif exchange is not None:
            exchange.client_failed("request_timeout")
        elif self._buffer:
            self._refuse("request_timeout")
        elif self._transport.get_write_buffer_size():
            self._outbox.flush()
            self._transport.abort()
        else:
            # Not before the loop has read once more: a worker that stood still may have a request waiting.
            self._loop.call_later(limits.LAST_LOOK_SECONDS, self._close_if_idle, self._requests)

    def _close_if_idle(self, requests: int) -> None:
        if self._state == HEAD and not self._buffer and self._requests == requests:
            self._close()
