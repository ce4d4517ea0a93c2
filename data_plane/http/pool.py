"""The connections of one worker to its upstreams, kept alive between requests.

The law: a connection belongs to one node and to at most one exchange; an idle one is the newest first, so that the surplus
ages and is closed. Opening one is the only task on the request path.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import ssl
from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.config.snapshot import KeepalivePool
from data_plane.h2.upstreams import SCHEMES, H2Upstreams
from data_plane.http import limits
from data_plane.http.outbox import Outbox
from data_plane.http.upstream import UpstreamConnection
from data_plane.upstream_tls.contexts import ClientContexts, TlsMaterialError
from data_plane.upstream_tls.failures import TlsFailureLog

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Timeouts, Upstream
    from data_plane.exchange.requester import Requester
    from data_plane.upstream_tls.client_tls import ClientTls

# Idle connections are looked through this often; one may outlive its idle timeout by so much.
SWEEP_SECONDS = 1.0
# Files that all idle connections of a worker may keep open, of those that it may have.
IDLE_SHARE = 4
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
# Of a node that takes no more requests.
NOT_KEPT = KeepalivePool(size=0, requests=0)


class NodePool:
    """The idle connections to one node, oldest first. `open` counts those in use and being opened as well."""

    __slots__ = ("idle", "keepalive", "node", "now", "open", "outbox", "tls", "tls_failed")

    def __init__(
        self,
        node: Node,
        keepalive: KeepalivePool,
        now: float,
        outbox: Outbox,
        tls: ClientTls | None = None,
        tls_failed: TlsFailureLog | None = None,
    ) -> None:
        self.outbox = outbox
        self.idle: deque[UpstreamConnection] = deque()
        # As of the last sweep: exact enough for idleness, and a request need not ask the clock.
        self.now = now
        self.node = node
        self.keepalive = keepalive
        self.tls = tls
        self.tls_failed = tls_failed
        self.open = 0

    def __repr__(self) -> str:
        return f"<NodePool {self.node.host}:{self.node.port} idle={len(self.idle)} open={self.open}>"

    def __len__(self) -> int:
        return len(self.idle)

    def forget(self, conn: UpstreamConnection) -> None:
        if conn in self.idle:
            self.idle.remove(conn)

    def closed(self) -> None:
        self.open -= 1

    def note(self, error: Exception | None) -> None:
        """What ended a connection: with TLS 1.3 a server refuses a certificate only after the handshake."""
        if self.tls is not None and self.tls_failed is not None and isinstance(error, ssl.SSLError):
            self.tls_failed(self.node, self.tls, error)

    def sweep(self, now: float) -> None:
        self.now = now
        horizon = now - self.keepalive.idle_timeout
        while self.idle and self.idle[0].idle_since < horizon:
            self.idle.popleft().close()

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


@mypyc_attr(allow_interpreted_subclasses=True)
class Pool:
    """All nodes of a worker. A node's figures are those of the upstream that last opened a connection to it."""

    __slots__ = ("_h2", "_loop", "_nodes", "_outbox", "_sweeper", "_tasks", "contexts", "most_idle", "tls_failed")

    def __init__(self, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._h2 = H2Upstreams(loop, self)
        # The worker puts others here, with authorities of the operator's.
        self.contexts = ClientContexts()
        self.tls_failed = TlsFailureLog(loop)
        self.most_idle = _most_idle()
        self._nodes: dict[bytes, NodePool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    def __repr__(self) -> str:
        return f"<Pool nodes={len(self._nodes)} idle={self.idle()} opening={len(self._tasks)}>"

    def idle(self) -> int:
        return sum(map(len, self._nodes.values()))

    def open(self) -> int:
        return sum(pool.open for pool in self._nodes.values())

    def take(self, node: Node, checked: bool) -> UpstreamConnection | None:
        pool = self._nodes.get(node.key)
        if pool is None:
            return None
        idle = pool.idle
        while idle:
            conn = idle.pop()
            if not checked or conn.is_alive():
                return conn
            conn.close()
        return None

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Requester) -> None:
        if upstream.scheme in SCHEMES:
            self._h2.connect(node, upstream, timeouts, exchange)
            return
        pool = self._nodes.get(node.key)
        if pool is None:
            pool = NodePool(node, upstream.keepalive_pool, self._loop.time(), self._outbox, upstream.tls, self.tls_failed)
            self._nodes[node.key] = pool
        pool.keepalive = upstream.keepalive_pool
        pool.open += 1
        task = self._loop.create_task(self._connect(pool, timeouts.connect, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, pool: NodePool, seconds: float, exchange: Requester) -> None:
        failure = None
        try:
            async with asyncio.timeout(seconds):
                conn = await self._open_with_room(pool)
        except TimeoutError:
            failure = "upstream_connect_timeout"
        # A name that cannot even be asked for is a UnicodeError.
        except (OSError, UnicodeError):
            failure = "upstream_connect_failed"
        except asyncio.CancelledError:
            pool.closed()
            raise
        if failure is not None:
            pool.closed()
            exchange.upstream_failed(failure)
        else:
            exchange.upstream_ready(conn)

    async def _open_with_room(self, pool: NodePool) -> UpstreamConnection:
        """Where there are no files left, half of the idle connections make room: a request is worth more."""
        try:
            return await self._open(pool)
        except OSError as error:
            if error.errno not in NO_FILES or not self._shed(self.idle() // 2):
                raise
        # An aborted transport closes its file in one of the loop's next rounds.
        for _ in range(3):
            await asyncio.sleep(0)
        return await self._open(pool)

    async def _open(self, pool: NodePool) -> UpstreamConnection:
        node, tls = pool.node, pool.tls
        if tls is not None:
            return await self._open_secured(pool, tls)
        _, conn = await self._loop.create_connection(
            lambda: UpstreamConnection(self._loop, pool),  # type: ignore[type-var]  # a protocol by its methods
            node.address or node.host,
            node.port,
        )
        return conn

    async def _open_secured(self, pool: NodePool, tls: ClientTls) -> UpstreamConnection:
        node = pool.node
        try:
            _, conn = await self._loop.create_connection(
                lambda: UpstreamConnection(self._loop, pool),  # type: ignore[type-var]  # as above
                node.address or node.host,
                node.port,
                ssl=await self.contexts.get(tls),
                server_hostname=tls.name_for(node),
            )
        except (ssl.SSLError, TlsMaterialError) as error:
            self.tls_failed(node, tls, error)
            raise
        return conn

    def retire(self, key: bytes) -> None:
        """A node has gone: its idle connections are closed, those in use with their next response."""
        pool = self._nodes.get(key)
        if pool is not None:
            pool.keepalive = NOT_KEPT
            pool.close()
        self._h2.retire(key)

    def _shed(self, kept: int) -> bool:
        """Keep so many idle connections, the youngest ones; whether one was closed."""
        surplus = self.idle() - kept
        if surplus <= 0:
            return False
        oldest = sorted((conn for pool in self._nodes.values() for conn in pool.idle), key=lambda conn: conn.idle_since)
        for conn in oldest[:surplus]:
            conn.drop()
        return True

    def _sweep(self) -> None:
        now = self._loop.time()
        self._shed(self.most_idle)
        for key, pool in list(self._nodes.items()):
            pool.sweep(now)
            if not pool.open:
                del self._nodes[key]
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    async def close(self) -> None:
        self._sweeper.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._nodes.values():
            pool.close()
        await self._h2.close()


def _most_idle() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limits.CONNECTIONS if soft == resource.RLIM_INFINITY else min(limits.CONNECTIONS, soft // IDLE_SHARE)
