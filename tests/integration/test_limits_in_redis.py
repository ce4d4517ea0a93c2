"""Limits whose counts are in a real Redis: alone, as a cluster, with a password, gone and back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from data_plane.config.snapshot import NativeBinding
from shared.limits.redis import ENTER, FIXED_WINDOW, LEAKY_BUCKET, LEAVE, SLIDING_WINDOW, RedisCounters, Server
from shared.limits.rows import LimitsFailed
from tests.support.etcd import free_port, until
from tests.support.native import Native
from tests.support.redis import Redis, running_redis

PASSWORD = "a password"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@asynccontextmanager
async def counters(*servers: Redis, **more: Any) -> AsyncIterator[RedisCounters]:  # noqa: ANN401 - as Server
    made = RedisCounters(Server(tuple(("127.0.0.1", server.port) for server in servers), **{"timeout": 5.0, **more}))
    try:
        yield made
    finally:
        await made.close()


def key() -> str:
    return uuid4().hex


async def test_two_gateways_that_hammer_let_no_more_through_than_the_count(redis: Redis) -> None:
    name = key()
    async with counters(redis) as one, counters(redis) as other:
        asked = [gateway.run(FIXED_WINDOW, name, 30, 60_000) for _ in range(40) for gateway in (one, other)]
        answers = await asyncio.gather(*asked)
    assert sorted(remaining for remaining, _ in answers) == [-1] * 50 + list(range(30))
    assert all(0 < left <= 60_000 for _, left in answers)


async def test_a_window_ends(redis: Redis) -> None:
    name = key()
    async with counters(redis) as gateway:
        assert await gateway.run(FIXED_WINDOW, name, 1, 50) == [0, 50]
        remaining, left = await gateway.run(FIXED_WINDOW, name, 1, 50)
        assert remaining == -1
        while remaining < 0:
            await asyncio.sleep(left / 1000)
            remaining, left = await gateway.run(FIXED_WINDOW, name, 1, 50)


async def test_a_sliding_window_lets_so_many_through(redis: Redis) -> None:
    name = key()
    async with counters(redis) as gateway:
        answers = [await gateway.run(SLIDING_WINDOW, name, 3, 3_600_000) for _ in range(5)]
        assert [remaining for remaining, _ in answers][-1] == -1
        assert 3 <= sum(remaining >= 0 for remaining, _ in answers) <= 4
        name, passed = key(), 0
        # Over many windows of 100 ms never much more than their number allows.
        began = asyncio.get_running_loop().time()
        while (lasted := asyncio.get_running_loop().time() - began) < 0.5:
            remaining, _ = await gateway.run(SLIDING_WINDOW, name, 2, 100)
            passed += remaining >= 0
    assert 2 <= passed <= 2 * (lasted / 0.1 + 2)


async def test_a_bucket_delays_and_refuses(redis: Redis) -> None:
    name = key()
    async with counters(redis) as gateway:
        answers = [await gateway.run(LEAKY_BUCKET, name, 0.001, 2) for _ in range(4)]
        assert answers[0] == [0]
        assert [round(answer[0] / 1e9) for answer in answers[1:3]] == [1, 2]
        assert answers[3] == [-1]
        assert b":" in redis.ask("PTTL", name)


async def test_a_gauge_is_left_once_and_forgets_who_never_leaves(redis: Redis) -> None:
    name = key()
    async with counters(redis) as gateway:
        assert [await gateway.run(ENTER, name, 2, 60_000, who) for who in "abc"] == [[1], [2], [-1]]
        assert [await gateway.run(LEAVE, name, "a"), await gateway.run(LEAVE, name, "a")] == [[1], [0]]
        assert await gateway.run(ENTER, name, 2, 60_000, "c") == [2]
        name = key()
        assert await gateway.run(ENTER, name, 2, 30, "dies") == [1]
        assert await gateway.run(ENTER, name, 2, 60_000, "lives") in ([1], [2])
        async with asyncio.timeout(10):
            while await gateway.run(ENTER, name, 2, 60_000, "waits") == [-1]:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)


async def test_a_password_and_a_database(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--requirepass", PASSWORD) as server:
        async with counters(server, password=PASSWORD, database=3) as gateway:
            assert await gateway.run(FIXED_WINDOW, "a", 2, 60_000) == [1, 60_000]
        async with counters(server, password="another") as gateway:
            with pytest.raises(LimitsFailed) as failed:
                await gateway.run(FIXED_WINDOW, "a", 2, 60_000)
            assert "another" not in str(failed.value)


async def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        async with counters(server) as gateway:
            assert await gateway.run(FIXED_WINDOW, "a", 9, 60_000) == [8, 60_000]
            server.kill()
            with pytest.raises(LimitsFailed, match="redis"):
                await gateway.run(FIXED_WINDOW, "a", 9, 60_000)
            server.start()
            assert await gateway.run(FIXED_WINDOW, "a", 9, 60_000) == [8, 60_000]


async def test_a_server_that_says_nothing_is_not_waited_for_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(silent.accept()[0]), daemon=True).start()
        gateway = RedisCounters(Server((silent.getsockname()[:2],), timeout=0.2))
        with pytest.raises(LimitsFailed, match=r"redis"):
            await gateway.run(FIXED_WINDOW, "a", 9, 60_000)
        await gateway.close()
        for connection in accepted:
            connection.close()


PLUGINS: dict[str, dict[str, Any]] = {
    "limit-count": {"count": 1, "time_window": 60},
    "limit-req": {"rate": 0.01, "burst": 0, "key": "remote_addr"},
    "limit-conn": {"conn": 1, "burst": 0, "default_conn_delay": 0.1},
}


async def asked(native: Native) -> int:
    """A request's status, once it has waited for Redis."""
    native.request()
    answer, told = native.stage.waiting.pop()
    told(await answer, None)
    return native.response(b"x").status if native.recorded.upstream else native.answer.status


async def closed(native: Native) -> None:
    """What its plugins do beside requests, and at their end."""
    for binding in native.route.bindings:
        assert isinstance(binding, NativeBinding)
        binding.bound.plugin.detach()
    while native.host.work:
        await native.host.work.pop(0)[1]


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_two_gateways_have_one_limit(redis: Redis, plugin: str) -> None:
    conf = {**PLUGINS[plugin], "policy": "redis", "redis_host": "127.0.0.1", "redis_port": redis.port, "redis_timeout": 5000}
    one, other = (Native({plugin: conf}) for _ in range(2))
    if plugin != "limit-conn":
        assert [await asked(one), await asked(other)] == [200, 503]
    else:
        one.request()
        answer, told = one.stage.waiting.pop()
        told(await answer, None)
        assert one.recorded.upstream
        assert await asked(other) == 503
        one.exchange.client_gone()
        await one.host.work.pop(0)[1]
        assert await asked(other) == 200
    await closed(one)
    await closed(other)


async def test_a_client_that_leaves_while_it_is_counted_is_counted_out(redis: Redis) -> None:
    conf = {**PLUGINS["limit-conn"], "policy": "redis", "redis_host": "127.0.0.1", "redis_port": redis.port, "key": "host"}
    native = Native({"limit-conn": conf})
    native.request()
    answer, _ = native.stage.waiting.pop()
    asking = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    native.exchange.client_gone()
    await native.host.work.pop(0)[1]
    assert await asked(native) == 200
    await closed(native)


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize(("degrades", "status"), [(False, 500), (True, 200)])
async def test_without_redis_the_answer_is_500_or_no_limit(plugin: str, degrades: bool, status: int) -> None:
    conf = {**PLUGINS[plugin], "policy": "redis", "redis_host": "127.0.0.1", "redis_port": free_port()}
    native = Native({plugin: {**conf, "allow_degradation": degrades}})
    assert await asked(native) == status
    assert {name for name, _ in native.host.failures} == {plugin}
    await closed(native)


async def test_a_cluster(tmp_path: Path) -> None:
    with running_redis(tmp_path, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1") as server:
        for first in range(0, 16384, 4096):
            assert server.ask("CLUSTER", "ADDSLOTS", *map(str, range(first, first + 4096))) == b"+OK\r\n"
        await until(lambda: b"cluster_state:ok" in server.ask("CLUSTER", "INFO"), 20)
        async with counters(server, cluster=True) as gateway:
            for name in ("a", "b", "c"):
                assert await gateway.run(FIXED_WINDOW, name, 2, 60_000) == [1, 60_000]
                assert (await gateway.run(FIXED_WINDOW, name, 2, 60_000))[0] == 0
                assert (await gateway.run(FIXED_WINDOW, name, 2, 60_000))[0] == -1
