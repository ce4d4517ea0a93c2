"""A gateway's two kinds of connections without sockets: bytes in, bytes out, in the loop's order and at once.

The law: the connections, the exchange and the pool's lending are the real ones; only the loop and the transports are made up.
Time stands still, so no deadline expires.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from data_plane.config.snapshot import Node, PluginBinding, Snapshot, Timeouts, Upstream, WasmPlugin
from data_plane.exchange.sending import Sending
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway
from data_plane.http.pool import NodePool
from data_plane.http.upstream import UpstreamConnection
from data_plane.plugins.interface import ChainSink, PluginChain
from tests.support.gateway import KEEPALIVE, NoPlugins, OneRoute, route_to

BINDING = PluginBinding(WasmPlugin("passing", 1, ""), b"", "route/1", 1)


class Handle:
    def cancel(self) -> None: ...


class Loop:
    """As much of an event loop as connections use."""

    def __init__(self) -> None:
        self._soon: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()

    def time(self) -> float:
        return 0.0

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self._soon.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Handle:
        return Handle()

    call_at = call_later

    def run(self) -> None:
        while self._soon:
            callback, args = self._soon.popleft()
            callback(*args)


class Transport:
    """Keeps what was written; `on_write` hears of it."""

    def __init__(
        self, loop: Loop, protocol: ClientConnection | UpstreamConnection, on_write: Callable[[], None] | None = None
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._on_write = on_write
        self.written = b""
        self.closed = False
        self.half_closed = False
        self.was_reset = False

    def write(self, data: bytes) -> None:
        assert not self.half_closed
        self.written += data
        if self._on_write is not None:
            self._loop.call_soon(self._on_write)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def setsockopt(self, *option: object) -> None:
        """As its own socket: the only option ever set is the one before a reset."""
        self.was_reset = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None: ...

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("10.0.0.1", 1234), "sockname": ("10.0.0.1", 1234), "socket": self}.get(name)


class OneServer:
    """The pool: every request gets a connection of its own. `answer` is called whenever bytes have reached the server, with all
    that have so far, and returns what it says then.
    """

    def __init__(self, loop: Loop, answer: Callable[[bytes], bytes]) -> None:
        self._loop = loop
        self._answer = answer
        self.transports: list[Transport] = []
        self.connections: list[UpstreamConnection] = []
        self.outbox: Any = None

    def take(self, node: Node, checked: bool) -> UpstreamConnection | None:
        return None

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Sending) -> None:
        loop = cast(asyncio.AbstractEventLoop, self._loop)
        # The connection is closed after its request: it is never idle.
        pool = NodePool(node, KEEPALIVE, 0.0, self.outbox)
        conn = UpstreamConnection(loop, pool)
        transport = Transport(self._loop, conn, lambda: self._hear(conn, transport))
        self.transports.append(transport)
        self.connections.append(conn)
        conn.connection_made(cast(asyncio.BaseTransport, transport))
        self._loop.call_soon(exchange.upstream_ready, conn)

    def say(self, data: bytes) -> None:
        """On the connection that was opened last."""
        if data and not self.transports[-1].closed:
            self.connections[-1].data_received(data)
        self._loop.run()

    def end(self) -> None:
        if not self.transports[-1].closed:
            self.connections[-1].eof_received()
            self.transports[-1].close()
        self._loop.run()

    def _hear(self, conn: UpstreamConnection, transport: Transport) -> None:
        said = self._answer(transport.written)
        if said and not transport.closed:
            conn.data_received(said)


class Passing:
    """A chain that lets everything go on, and keeps the heads of requests."""

    reads_request_body = reads_response_body = reads_trailers = holding = False
    request_backlog = response_backlog = 0

    def __init__(self, sink: ChainSink, heads: list[bytes]) -> None:
        self._heads = heads
        self._forward_head = sink.forward_request_head
        self.request_body = sink.forward_request_body
        self._forward_response_head = sink.forward_response_head
        self.response_body = sink.forward_response_body

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._heads.append(head)
        self._forward_head(head)

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._forward_response_head(head)

    def finish(self) -> None: ...


class Wire:
    """One client's connection to a gateway with one route, with or without a plugin; `heads` are those that it has seen."""

    def __init__(self, answer: Callable[[bytes], bytes], *, plugins: bool = False) -> None:
        self._loop = Loop()
        loop = cast(asyncio.AbstractEventLoop, self._loop)
        self.plugins = NoPlugins()
        self.gateway = Gateway(loop, self.plugins)
        self.server = OneServer(self._loop, answer)
        self.server.outbox = self.gateway.outbox
        self.gateway.pool = cast(Any, self.server)
        self.heads: list[bytes] = []
        self.plugins.make = lambda sink: cast(PluginChain, Passing(sink, self.heads))
        self.route = route_to(1, bindings=(BINDING,) if plugins else ())
        self.gateway.snapshot = Snapshot(1, OneRoute(self.route), {"1": self.route})
        self._client = ClientConnection(self.gateway)
        self._transport = Transport(self._loop, self._client)
        self._client.connection_made(cast(asyncio.BaseTransport, self._transport))

    def send(self, data: bytes) -> None:
        if data and not self._transport.closed:
            self._client.data_received(data)
        self._loop.run()

    @property
    def answered(self) -> bytes:
        return self._transport.written

    @property
    def is_over(self) -> bool:
        """No request is read any more."""
        return self._transport.closed or self._transport.half_closed

    @property
    def was_reset(self) -> bool:
        return self._transport.was_reset

    @property
    def forwarded(self) -> list[bytes]:
        """What each connection to the server got."""
        return [transport.written for transport in self.server.transports]
