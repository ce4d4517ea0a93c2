"""What the TCP sessions of one worker share: who is let in, which route takes it, how it reaches an upstream, and the end.

The law: every socket that was opened is in `connections` until it is gone. Clients of HTTP and of TCP share one limit: each may
need a second file for its upstream. Draining lets nobody in and waits for sessions to end by themselves.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from data_plane.config.snapshot import Node, PluginBinding, Upstream
from data_plane.http.listener import BACKLOG, Gateway
from data_plane.http.timers import Deadline
from data_plane.observe.stream_counters import StreamCounters
from data_plane.tcp.chain import ChainOwner, TcpChain, open_chain
from data_plane.tcp.connection import ClientConnection, Connection, UpstreamConnection
from data_plane.tcp.session import Session
from data_plane.tcp.tls import TlsConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_plane.tcp.ports import SessionSink
    from shared.proxy_wasm.properties import StreamFacts


class StreamGateway:
    """The sessions' SessionServing. `gateway` has the snapshot and the limit of clients."""

    def __init__(self, gateway: Gateway, runtime: ChainOwner) -> None:
        self.loop = gateway.loop
        self.counters = StreamCounters()
        self.connections: set[Connection] = set()
        self._gateway = gateway
        self._runtime = runtime
        self._sessions: set[Session] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()

    def __repr__(self) -> str:
        return f"<StreamGateway sessions={len(self._sessions)} connections={len(self.connections)}>"

    # --- clients

    def admit(self) -> int:
        """The connection's id, or 0 when there are too many."""
        gateway = self._gateway
        if len(gateway.clients) >= gateway.limit:
            self.counters.refused += 1
            return 0
        # One that HTTP may not have meanwhile.
        gateway.limit -= 1
        return gateway.next_connection_id()

    def release(self) -> None:
        """An admitted client is gone."""
        self._gateway.limit += 1

    def dismiss(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._gone.set()

    def open_session(self, client: ClientConnection) -> Session | None:
        """None when no route takes the connection."""
        local, port = client.local_address
        router = self._gateway.snapshot.stream_router
        route = router.match(client.client_address[0], local, port, client.server_name)
        if route is None:
            self.counters.refused += 1
            return None
        self.counters.sessions += 1
        session = Session(self, client, route)
        self._sessions.add(session)
        return session

    # --- SessionServing

    def open_chain(self, bindings: tuple[PluginBinding, ...], sink: SessionSink, facts: StreamFacts) -> TcpChain:
        return open_chain(self._runtime, bindings, sink, facts)

    def connect(self, node: Node, upstream: Upstream, session: Session) -> asyncio.Task[None]:
        task = self.loop.create_task(self._connect(node, upstream, session))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)
        return task

    def timer(self, expire: Callable[[], None]) -> Deadline:
        return Deadline(self.loop, expire)

    def unix_time_ns(self) -> int:
        return time.time_ns()

    def session_over(self, session: Session) -> None:
        self._sessions.discard(session)
        received, sent = session.received
        self.counters.bytes_received += received
        self.counters.bytes_sent += sent

    async def _connect(self, node: Node, upstream: Upstream, session: Session) -> None:
        try:
            connection = await self._connection(node, upstream, session)
        except OSError:
            session.connect_failed()
            return
        try:
            async with asyncio.timeout(upstream.timeouts.connect):
                await self.loop.create_connection(lambda: connection, node.address or node.host, node.port)
        # A name that cannot even be asked for is a UnicodeError.
        except (OSError, UnicodeError, TimeoutError) as error:
            if connection in self.connections:
                connection.connection_lost(error)
            else:
                session.connect_failed()
        except asyncio.CancelledError:
            # uvloop closes a connection that was just made without a word to it.
            if connection in self.connections:
                connection.connection_lost(None)
            raise

    async def _connection(self, node: Node, upstream: Upstream, session: Session) -> Connection:
        """Raises OSError when its TLS cannot be set up."""
        tls = upstream.tls
        if tls is None:
            return UpstreamConnection(self, session)
        context = await self._gateway.pool.contexts.get(tls)
        return TlsConnection(self, session, upstream.timeouts.connect, context, tls.name_for(node))

    # --- the end

    def busy(self) -> int:
        """Sessions that have not ended."""
        return len(self._sessions)

    async def drain(self, grace: float) -> int:
        """Let sessions end within so many seconds; returns how many were cut."""
        if self.connections:
            self._gone.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._gone.wait()
        cut = self.busy()
        for connection in tuple(self.connections):
            connection.stop()
        for task in tuple(self._attempts):
            task.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        return cut


async def serve_streams(gateway: StreamGateway, listener: socket.socket, peeks: bool) -> asyncio.Server:
    return await gateway.loop.create_server(lambda: ClientConnection(gateway, peeks), sock=listener, backlog=BACKLOG)
