"""Versions of a plugin: kept, listed, gone back to, collected."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from control_plane.admin import collector
from control_plane.admin.versions import MOST_VERSIONS
from shared.keys import VERSIONS_PREFIX
from shared.store.blobs import GRACE_SECONDS, collect_modules, get_module
from shared.store.contract import ConfigStore
from tests.support.admin import Admin, admin
from tests.support.guests import GUEST, assemble

MODULES = [assemble(GUEST.replace("1024", str(1024 + 16 * number))) for number in range(MOST_VERSIONS + 2)]
DIGESTS = [hashlib.sha256(module).hexdigest() for module in MODULES]
A, B, C = DIGESTS[:3]


async def versions(api: Admin, name: str = "p") -> list[tuple[int, str, bool]]:
    answer = await api.ok("GET", f"/wasm_plugins/{name}/versions")
    assert answer["total"] == len(answer["list"])
    return [(version["version"], version["sha256"], version["active"]) for version in answer["list"]]


async def active(api: Admin) -> Any:  # noqa: ANN401 - a JSON value
    return (await api.ok("GET", "/wasm_plugins/p"))["value"]["module"]


async def test_each_digest_is_a_version(api: Admin) -> None:
    for module in (MODULES[0], MODULES[1], MODULES[1], MODULES[0]):
        await api.upload("p", module)
    await api.ok("PATCH", "/wasm_plugins/p", {"priority": 1})
    await api.ok("PUT", "/wasm_plugins/p", {"module": {"sha256": B}})
    assert await versions(api) == [(2, B, True), (1, A, False)]
    await api.upload("q", MODULES[0])
    assert await versions(api, "q") == [(1, A, True)]


async def test_a_version_says_when_and_whence(store: ConfigStore) -> None:
    now = 1000.0
    async with admin(store, clock=lambda: now) as api:
        await api.upload("p", MODULES[0])
        now = 2000.0
        await api.upload("p", MODULES[1])
        now = 3000.0
        await api.upload("p", MODULES[0])
        _, first = (await api.ok("GET", "/wasm_plugins/p/versions"))["list"]
    assert first == {
        "version": 1,
        "sha256": A,
        "module": {"sha256": A},
        "create_time": 1000,
        "active_time": 3000,
        "active": True,
    }


async def test_back_to_the_one_before_and_forth(api: Admin) -> None:
    for module in MODULES[:3]:
        await api.upload("p", module)
    await api.ok("PATCH", "/wasm_plugins/p", {"priority": 7})
    answer = await api.ok("POST", "/wasm_plugins/p/rollback")
    assert (answer["version"], answer["value"]["module"], answer["value"]["priority"]) == (2, {"sha256": B}, 7)
    assert await versions(api) == [(3, C, False), (2, B, True), (1, A, False)]
    assert (await api.call("GET", "/wasm_plugins/p/module")).content == MODULES[1]
    assert (await api.ok("POST", "/wasm_plugins/p/rollback"))["version"] == 3


@pytest.mark.parametrize("wanted", [{"version": 1}, {"sha256": A}, {"version": 1, "sha256": A}])
async def test_back_to_a_version_that_is_named(api: Admin, wanted: dict[str, object]) -> None:
    for module in MODULES[:3]:
        await api.upload("p", module)
    response = await api.call("POST", "/wasm_plugins/p/rollback", wanted)
    assert (response.status_code, response.json()["version"]) == (200, 1)
    assert int(response.headers["X-Waspgate-Revision"]) == await api.store.revision()
    assert await active(api) == {"sha256": A}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"version": 9}, "the plugin has no version 9; kept versions: 1, 2"),
        ({"sha256": C}, f"the plugin has no sha256 {C}; kept versions: 1, 2"),
        ({"version": 1, "sha256": B}, f"the plugin has no version 1 with sha256 {B}; kept versions: 1, 2"),
        ({"version": 0}, "at least 1"),
        ({"version": "1"}, "expected integer"),
        ({"sha256": "A"}, "failed to match pattern"),
        ({"digest": A}, "additional properties forbidden"),
        ([], "expected object"),
    ],
)
async def test_versions_that_there_are_not(api: Admin, wanted: object, message: str) -> None:
    for module in MODULES[:2]:
        await api.upload("p", module)
    assert message in await api.refused(400, "POST", "/wasm_plugins/p/rollback", wanted)
    assert await active(api) == {"sha256": B}


async def test_nothing_to_go_back_to(api: Admin) -> None:
    await api.upload("p", MODULES[0])
    await api.ok("PUT", "/wasm_plugins/empty", {})
    for name in ("p", "empty"):
        message = await api.refused(400, "POST", f"/wasm_plugins/{name}/rollback")
        assert message == "there is no version before this one to go back to"
    assert await versions(api, "empty") == []
    for verb, path in (("GET", "versions"), ("POST", "rollback")):
        assert await api.refused(404, verb, f"/wasm_plugins/absent/{path}") == "Key not found"


async def test_a_rollback_asks_the_plugin(api: Admin) -> None:
    trapping = assemble(GUEST.replace('(func (export "proxy_on_context_create") (param i32 i32))', TRAPS))
    await api.ok("PUT", "/wasm_plugins/p/module?dry_run=false", content=trapping)
    await api.upload("p", MODULES[0])
    assert "unreachable" in await api.refused(400, "POST", "/wasm_plugins/p/rollback")
    assert await active(api) == {"sha256": A}
    await api.ok("POST", "/wasm_plugins/p/rollback?dry_run=false")


TRAPS = '(func (export "proxy_on_context_create") (param i32 i32) unreachable)'


async def test_a_plugin_that_was_there_before_versions_were(api: Admin, store: ConfigStore) -> None:
    await api.upload("p", MODULES[0])
    await store.delete(f"{VERSIONS_PREFIX}p")
    await api.upload("p", MODULES[1])
    assert await versions(api) == [(2, B, True), (1, A, False)]


async def test_the_oldest_give_way(api: Admin) -> None:
    for module in MODULES[:MOST_VERSIONS]:
        await api.upload("p", module)
    # Back in service, the first is no longer the one that goes.
    await api.ok("POST", "/wasm_plugins/p/rollback", {"version": 1})
    for module in MODULES[MOST_VERSIONS:]:
        await api.upload("p", module)
    kept = [number for number, _, _ in await versions(api)]
    assert kept == [12, 11, 10, 9, 8, 7, 6, 5, 4, 1]


async def test_bytes_stay_as_long_as_their_version(store: ConfigStore) -> None:
    async with admin(store) as api:
        for module in MODULES[: MOST_VERSIONS + 1]:
            await api.upload("p", module)
        await api.upload("gone", MODULES[MOST_VERSIONS + 1])
        await api.ok("DELETE", "/wasm_plugins/gone")
        assert not await store.get(f"{VERSIONS_PREFIX}gone")
        await api.upload("expired", MODULES[MOST_VERSIONS + 1])
        await store.delete("/apisix/wasm_plugins/expired")

        removed = await collect_later(api)
        # The version that gave way, and what nobody has any more.
        assert removed == {DIGESTS[0], DIGESTS[MOST_VERSIONS + 1]}
        assert await get_module(store, DIGESTS[1]) == MODULES[1]
        assert not await store.get(f"{VERSIONS_PREFIX}expired")
        await api.ok("POST", "/wasm_plugins/p/rollback", {"version": 2})


async def collect_later(api: Admin) -> set[str]:
    """As the collector does when the grace time is over."""

    async def later(store: ConfigStore, referenced: set[str]) -> list[str]:
        return await collect_modules(store, referenced, grace_seconds=-GRACE_SECONDS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "collect_modules", later)
        return await collector.Collector(api.store).collect()
