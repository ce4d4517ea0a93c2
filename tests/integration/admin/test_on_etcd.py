"""The Admin API on a real etcd: two control planes over one cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from control_plane.admin import writer
from shared.store.url import open_store
from tests.support.admin import NODES, admin
from tests.support.etcd import running_etcd
from tests.support.guests import GUEST, assemble
from tests.support.relay import relay

OTHER = assemble(GUEST.replace("1024", "2048"))


async def test_two_control_planes_on_etcd(tmp_path: Path) -> None:
    async with (
        running_etcd(tmp_path) as etcd,
        open_store(etcd.url) as store,
        open_store(etcd.url) as other_store,
        admin(store) as api,
        admin(other_store) as other,
    ):
        await api.upload("p", assemble())
        await other.ok("PUT", "/upstreams/u", NODES)
        await api.ok("PUT", "/routes/1", {"uri": "/a", "upstream_id": "u", "plugins": {"p": {"conf": "x"}}})
        assert (await other.call("GET", "/wasm_plugins/p/module")).content == assemble()
        assert "route [1]" in await other.refused(400, "DELETE", "/upstreams/u")
        assert "route [1]" in await other.refused(400, "DELETE", "/wasm_plugins/p")

        patches = [(api, other)[n % 2].ok("PATCH", "/upstreams/u", {"labels": {f"l{n}": "x"}}) for n in range(20)]
        await asyncio.gather(*patches)
        labels = (await api.ok("GET", "/upstreams/u"))["value"]["labels"]
        assert set(labels) == {f"l{n}" for n in range(20)}

        await other.upload("p", OTHER)
        assert (await api.ok("POST", "/wasm_plugins/p/rollback"))["version"] == 1
        await api.ok("PATCH", "/routes/1/plugins/p/conf", "y")
        versions = (await other.ok("GET", "/wasm_plugins/p/versions"))["list"]
        assert [(version["version"], version["active"]) for version in versions] == [(2, False), (1, True)]

        posts = await asyncio.gather(*((api, other)[n % 2].ok("POST", "/upstreams", NODES) for n in range(10)))
        assert len({post["key"] for post in posts}) == 10

        for _ in range(10):
            await api.ok("PUT", "/upstreams/race", NODES)
            route = other.call("PUT", "/routes/2", {"uri": "/a", "upstream_id": "race"})
            await asyncio.gather(api.call("DELETE", "/upstreams/race"), route)
            bound = (await api.call("GET", "/routes/2")).status_code == 200
            assert not bound or (await api.call("GET", "/upstreams/race")).status_code == 200
            await api.call("DELETE", "/routes/2")

        etcd.kill()
        assert "the configuration store is unavailable" in await api.refused(503, "GET", "/routes")
        await etcd.start()
        assert (await api.ok("GET", "/routes"))["total"] == 1


async def test_a_slow_etcd_slows_writes_down_and_one_that_takes_seconds_is_as_good_as_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_etcd(tmp_path) as etcd,
        relay(etcd.port) as path,
        open_store(f"etcd://{path.endpoint}") as store,
        admin(store) as api,
    ):
        await api.ok("PUT", "/upstreams/u", NODES)
        path.late = 0.01
        await api.ok("PUT", "/upstreams/u", {"nodes": {"127.0.0.1:1": 1}})
        # By APISIX's own tests: below 0.4 s when each answer comes 30 ms late, below 4 s when it is 300 ms.
        assert 2 <= path.delays <= 13
        monkeypatch.setattr(writer, "STORE_SECONDS", 1.0)
        path.late = 0.6
        assert "store is unavailable" in await api.refused(503, "PUT", "/upstreams/u", NODES)
        path.mend()
        # A connection that was given up may still have to be made anew.
        await until_ok(lambda: api.call("PUT", "/upstreams/u", NODES))


async def until_ok(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if (await ask()).status_code == 200:
                return
            await asyncio.sleep(0.05)
