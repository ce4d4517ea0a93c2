"""The Admin API on a real etcd: two control planes over one cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.store.url import open_store
from tests.support.admin import NODES, admin
from tests.support.etcd import running_etcd
from tests.support.guests import GUEST, assemble

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
