"""Who gets which connection, and what waits for one that is being opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from data_plane.config.snapshot import KeepalivePool, Node
from data_plane.h2.pool import H2Pool
from data_plane.h2.upstream import MOST_STREAMS, StreamListener, UpstreamH2Connection
from tests.support.gateway import HOST, node

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
KEPT = KeepalivePool()
FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/m"), (b":authority", b"h")]


class Waiter:
    def __init__(self, keepalive: KeepalivePool = KEPT) -> None:
        self.keepalive = keepalive
        self.told = asyncio.get_running_loop().create_future()

    def h2_ready(self, conn: UpstreamH2Connection) -> None:
        self.told.set_result(conn)

    def h2_failed(self, kind: str) -> None:
        self.told.set_result(kind)

    # StreamListener
    def h2_lost(self, kind: str, unprocessed: bool) -> None: ...

    def h2_taken(self) -> None: ...


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[tuple[H2Pool, Node]]:
    loop, peers = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    server = await asyncio.start_server(lambda *streams: peers.append(loop.create_task(serve(*streams))), HOST, 0)
    pool = H2Pool(loop, None)
    try:
        yield pool, node(server.sockets[0].getsockname()[1])
    finally:
        await pool.close()
        server.close()
        await asyncio.gather(*peers)


async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_those_who_ask_at_once_share_one_connection_and_so_do_later_ones() -> None:
    opened = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await hold(reader, writer)

    async with serving(count) as (pool, target):
        waiters = [Waiter() for _ in range(5)]
        for waiter in waiters:
            pool.ask(target, 5, waiter)
        conns = {await waiter.told for waiter in waiters}
        later = Waiter()
        pool.ask(target, 5, later)
        assert later.told.done()
        assert conns == {later.told.result()}
        assert opened == 1


async def test_a_peer_that_closes_at_once_is_asked_once() -> None:
    opened = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        writer.close()
        await writer.wait_closed()

    async with serving(refuse) as (pool, target):
        gone = Waiter()

        async def already_closed(_: Node, keepalive: KeepalivePool) -> UpstreamH2Connection | None:
            conn = await made(target, keepalive)
            assert conn is not None
            conn.close()
            return conn

        made = pool._new
        # The peer's close has been seen by then.
        setattr(pool, "_new", already_closed)  # noqa: B010 - a test's stand-in
        pool.ask(target, 5, gone)
        assert await gone.told == "upstream_closed"
        assert (opened, pool._open, pool._waiting) == (1, {}, {})


@pytest.mark.parametrize(("port", "kind"), [(1, "upstream_connect_failed")])
async def test_nobody_there(port: int, kind: str) -> None:
    pool = H2Pool(asyncio.get_running_loop(), None)
    waiters = [Waiter(), Waiter()]
    for waiter in waiters:
        pool.ask(node(port), 5, waiter)
    assert [await waiter.told for waiter in waiters] == [kind, kind]
    await pool.close()


async def test_a_full_connection_gets_a_second_beside_it() -> None:
    async with serving(hold) as (pool, target):
        first, second = Waiter(), Waiter()
        pool.ask(target, 5, first)
        conn = await first.told
        while conn.takes_more():
            conn.open(first, FIELDS)
        pool.ask(target, 5, second)
        assert await second.told is not conn
        assert [len(conns) for conns in pool._open.values()] == [2]


class Opener(Waiter):
    def h2_ready(self, conn: UpstreamH2Connection) -> None:
        conn.open(cast(StreamListener, self), FIELDS)
        super().h2_ready(conn)


async def test_a_connection_takes_so_many_requests_and_another_the_next_ones() -> None:
    async with serving(hold) as (pool, target):
        waiters = [Opener(KeepalivePool(requests=2)) for _ in range(5)]
        for waiter in waiters:
            pool.ask(target, 5, waiter)
        conns = [await waiter.told for waiter in waiters]
        assert [conns.index(conn) for conn in conns] == [0, 0, 2, 2, 4]
        for conn in conns:
            for stream in tuple(conn.streams):
                conn.reset(stream)


async def test_so_many_idle_connections_are_kept() -> None:
    async with serving(hold) as (pool, target):
        keepalive = KeepalivePool(size=1)
        conns = []
        for _ in range(3):
            waiter = Waiter(keepalive)
            pool.ask(target, 5, waiter)
            conn = await waiter.told
            conns.append((conn, [conn.open(waiter, FIELDS) for _ in range(MOST_STREAMS)]))
        for conn, streams in conns:
            for stream in streams:
                conn.reset(stream)
        assert list(pool._open.values()) == [[conns[0][0]]]
