"""Connections that are kept: how many, for how long, and what they are worth when there are no files left."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from data_plane.config.snapshot import KeepalivePool, Node, Picker, Timeouts, Upstream
from data_plane.exchange.messages import RequestFields, RequestHead, ResponseHead
from data_plane.exchange.ports import UpstreamPort
from data_plane.exchange.requester import Requester
from data_plane.http.outbox import Outbox
from data_plane.http.pool import NodePool, Pool
from data_plane.http.upstream import UpstreamConnection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"


class Nobody(Picker):
    """The tests pick."""

    def pick(self) -> Node | None:
        return None


class Short:
    """A running loop that has no files for the next connections."""

    def __init__(self, connections: int = 0) -> None:
        self.refusals = connections
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)

    async def create_connection(self, *args: object, **named: object) -> object:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await cast(Callable[..., Awaitable[object]], self._loop.create_connection)(*args, **named)


class Asking(Requester):
    """One request; it waits for what comes of it."""

    def __init__(self) -> None:
        super().__init__(RequestHead(b"GET", b"/", REQUEST, RequestFields(b"", 1, b"t", b"t", b"")))
        self.came: asyncio.Future[UpstreamPort | str] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def send_timeout(self) -> float:
        return 2.0

    def upstream_ready(self, conn: UpstreamPort) -> None:
        self.came.set_result(conn)

    def upstream_failed(self, kind: str) -> None:
        self.came.set_result(kind)

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        self.ended.set_result(body.decode())

    def upstream_lost(self, kind: str) -> None:
        self.ended.set_result(kind)

    def upstream_blocked(self) -> None:
        return None

    def upstream_writable(self) -> None:
        return None


class Servers:
    """Some servers on loopback, and a pool that knows them as nodes."""

    def __init__(self, pool: Pool, ports: list[int]) -> None:
        self.pool = pool
        self.upstream = Upstream("u", Nobody())
        self.nodes = [Node("127.0.0.1", port, 1, b"127.0.0.1:%d" % port) for port in ports]

    async def connection(self, node: Node) -> UpstreamPort | str:
        asking = Asking()
        self.pool.connect(node, self.upstream, Timeouts(connect=5), asking)
        async with asyncio.timeout(5):
            return await asking.came

    async def keep_idle(self, node: Node) -> UpstreamConnection:
        """A connection that has served one request and is kept."""
        conn = await self.connection(node)
        assert isinstance(conn, UpstreamConnection)
        asking = Asking()
        conn.begin(asking, REQUEST, 5.0)
        async with asyncio.timeout(5):
            assert await asking.ended == "ok"
        conn.release()
        return conn


@asynccontextmanager
async def servers(count: int, loop: Short | None = None) -> AsyncIterator[Servers]:
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER)

    started = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(count)]
    used = cast(asyncio.AbstractEventLoop, loop or asyncio.get_running_loop())
    pool = Pool(used, Outbox(used))
    try:
        yield Servers(pool, [server.sockets[0].getsockname()[1] for server in started])
    finally:
        await pool.close()
        for server in started:
            server.close()
        for writer in accepted:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def test_idle_connections_of_all_nodes_together_are_bounded() -> None:
    async with servers(4) as it:
        kept = [await it.keep_idle(node) for node in it.nodes]
        for age, conn in enumerate(kept):
            conn.idle_since += age
        it.pool.most_idle = 2
        it.pool._sweeper.cancel()
        it.pool._sweep()
        assert it.pool.idle() == it.pool.open() == 2
        assert [it.pool.take(node, checked=False) for node in it.nodes] == [None, None, kept[2], kept[3]]
        kept[2].close()
        kept[3].close()


async def test_without_files_idle_connections_make_room_for_a_request() -> None:
    loop = Short()
    async with servers(3, loop) as it:
        for node in it.nodes[:2]:
            await it.keep_idle(node)
        loop.refusals = 1
        conn = await it.connection(it.nodes[2])
        assert isinstance(conn, UpstreamConnection)
        assert (it.pool.idle(), it.pool.open()) == (1, 2)
        conn.close()


@pytest.mark.parametrize("idle", [0, 1])
async def test_without_files_and_without_room_a_connection_fails(idle: int) -> None:
    loop = Short()
    async with servers(2, loop) as it:
        if idle:
            await it.keep_idle(it.nodes[0])
        loop.refusals = 2
        assert await it.connection(it.nodes[1]) == "upstream_connect_failed"


# Sending.


class Transport:
    """One that takes as much as a test says."""

    def __init__(self) -> None:
        self.unsent = 100_000
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        return None

    def abort(self) -> None:
        self.aborted = True


class Clock(asyncio.SelectorEventLoop):
    now = 0.0

    def time(self) -> float:
        return self.now


async def test_the_send_timeout_is_between_two_writes() -> None:
    clock = Clock()
    outbox = Outbox(clock)
    conn = UpstreamConnection(clock, NodePool(Node("a", 1, 1, b"a"), KeepalivePool(), 0.0, outbox))
    transport = Transport()
    conn.connection_made(cast(asyncio.BaseTransport, transport))
    asking = Asking()
    conn.begin(asking, REQUEST, 0.0)
    conn.pause_writing()
    for unsent in (90_000, 89_999, 70_000):
        transport.unsent = unsent
        conn._expired()
        assert not asking.ended.done()
    conn._expired()
    assert asking.ended.result() == "upstream_send_timeout"
    assert transport.aborted
    clock.close()
