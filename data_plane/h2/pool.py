"""The HTTP/2 connections of one worker to the upstreams of gRPC.

The law: calls to one node share a connection as long as it takes more streams; those that come while it is being opened wait
for it. A connection is kept as long as its upstream says. Over TLS a server that does not choose `h2` is refused.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from data_plane.config.snapshot import KeepalivePool, Node
from data_plane.h2.upstream import UpstreamH2Connection
from data_plane.upstream_tls.contexts import TlsMaterialError


class H2Waiter(Protocol):
    @property
    def keepalive(self) -> KeepalivePool:
        """Of its upstream."""

    def h2_ready(self, conn: UpstreamH2Connection) -> None: ...

    def h2_failed(self, kind: str) -> None: ...


class Security(Protocol):
    """How connections are secured."""

    async def get(self) -> ssl.SSLContext:
        """A client's context that offers `h2`."""

    def server_name(self, node: Node) -> str:
        """Whom its certificate must name."""

    def failed(self, node: Node, error: OSError) -> None:
        """Why no connection came about."""


class H2Pool:
    """`security` None: in the clear, the peer being known to speak HTTP/2 (RFC 9113 3.3)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, security: Security | None) -> None:
        self.loop = loop
        self._security = security
        self._open: dict[bytes, list[UpstreamH2Connection]] = {}
        self._waiting: dict[bytes, list[H2Waiter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, node: Node, seconds: float, waiter: H2Waiter) -> None:
        """A connection that takes a stream: at once if there is one, else when it is open."""
        key = node.key
        for conn in self._open.get(key, ()):
            if conn.takes_more():
                waiter.h2_ready(conn)
                return
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(waiter)
            return
        self._waiting[key] = [waiter]
        self._connect(node, seconds, waiter.keepalive)

    def _connect(self, node: Node, seconds: float, keepalive: KeepalivePool) -> None:
        task = self.loop.create_task(self._connected(node, seconds, keepalive))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, node: Node, seconds: float, keepalive: KeepalivePool) -> None:
        key, failure, conn = node.key, "upstream_connect_failed", None
        try:
            async with asyncio.timeout(seconds):
                conn = await self._new(node, keepalive)
        except TimeoutError:
            failure = "upstream_connect_timeout"
        # A name that cannot even be asked for is a UnicodeError.
        except (OSError, UnicodeError) as error:
            if self._security is not None and isinstance(error, ssl.SSLError | TlsMaterialError):
                self._security.failed(node, error)
        waiting = self._waiting.pop(key, [])
        # One that the peer has closed already is none: to wait for another would be to connect for ever.
        if conn is not None and not conn.takes_more():
            failure = conn.problem
            conn = None
        if conn is None:
            for waiter in waiting:
                waiter.h2_failed(failure)
            return
        self._open.setdefault(key, []).append(conn)
        while waiting and conn.takes_more():
            waiting.pop(0).h2_ready(conn)
        if waiting:
            self._waiting[key] = waiting + self._waiting.get(key, [])
            self._connect(node, seconds, waiting[0].keepalive)

    async def _new(self, node: Node, keepalive: KeepalivePool) -> UpstreamH2Connection | None:
        """Raises OSError, also when the server does not speak HTTP/2."""
        key = node.key
        security = self._security
        context = None if security is None else await security.get()
        transport, conn = await self.loop.create_connection(
            lambda: UpstreamH2Connection(
                self.loop, lambda closed: self._forget(key, closed), keepalive, lambda: self._trim(key, keepalive.size)
            ),
            node.address or node.host,
            node.port,
            ssl=context,
            server_hostname=None if security is None else security.server_name(node),
        )
        if security is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            transport.abort()
            raise ssl.SSLError("the server does not choose HTTP/2 (ALPN h2)")
        return conn

    def _forget(self, key: bytes, conn: UpstreamH2Connection) -> None:
        conns = self._open.get(key, [])
        if conn in conns:
            conns.remove(conn)
            if not conns:
                del self._open[key]

    def _trim(self, key: bytes, size: int) -> None:
        """A connection has nothing to do: keep so many of those."""
        idle = [conn for conn in self._open.get(key, ()) if not conn.streams]
        for conn in idle[size:]:
            conn.close()

    def is_empty(self) -> bool:
        return not (self._open or self._waiting)

    def retire(self, key: bytes) -> None:
        """The connections to this node take no more, and end with what they carry."""
        for conn in tuple(self._open.get(key, ())):
            conn.retire()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for conn in [conn for conns in self._open.values() for conn in conns]:
            conn.close()
