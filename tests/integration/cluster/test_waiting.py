"""`?wait=applied` and the registry, over a real store whose workers are a test's own entries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shared.data_planes import WorkerEntry
from shared.keys import AWAITED_KEY, worker_key
from shared.store.contract import ConfigStore
from shared.store.url import open_store
from tests.support.admin import NODES, Admin, admin
from tests.support.etcd import Etcd
from tests.support.store import watching

ENTRY = WorkerEntry("host-a", "1.2.3", "10.0.0.1:9080", 2, 1, 100, 5.0, 0, True)
ROUTE = {"uri": "/a", "upstream": NODES}


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    server = Etcd(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "etcd"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/config.db"
    server: Etcd = request.getfixturevalue("etcd_server")
    return server.url


@pytest.fixture
async def store(url: str) -> AsyncIterator[ConfigStore]:
    async with open_store(url) as opened:
        yield opened


@pytest.fixture
async def api(store: ConfigStore) -> AsyncIterator[Admin]:
    async with admin(store) as opened:
        yield opened


@asynccontextmanager
async def live(store: ConfigStore, *workers: int) -> AsyncIterator[None]:
    lease = await store.grant_lease(60)
    for worker in workers:
        await says(store, worker, 0, lease=lease)
    try:
        yield
    finally:
        await store.revoke_lease(lease)


async def says(store: ConfigStore, worker: int, revision: int, lease: int = 0, **more: object) -> None:
    key = worker_key("dp", worker, 100 + worker)
    before = await store.get(key)
    entry = replace(ENTRY, worker=worker, pid=100 + worker, revision=revision, **more)  # type: ignore[arg-type]
    await store.put(key, entry.encode(), lease=before.lease if before else lease)


@asynccontextmanager
async def waiting(api: Admin, verb: str, path: str, body: object = None) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """The call, once it has asked the workers to say how far they are."""
    revision = await api.store.revision()
    async with watching(api.store, AWAITED_KEY, revision + 1) as watched:
        call = asyncio.create_task(api.call(verb, path, body))
        await watched.has(1)
        yield call
        async with asyncio.timeout(5):
            await asyncio.wait({call})


async def test_it_answers_when_the_last_worker_serves_the_write(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1, 2), waiting(api, "PUT", "/routes/1?wait=applied", ROUTE) as call:
        written = await store.get("/apisix/routes/1")
        assert written is not None
        await says(store, 1, written.mod_revision)
        await says(store, 2, written.mod_revision - 1)
        done, _ = await asyncio.wait({call}, timeout=0.1)
        assert not done
        await says(store, 2, written.mod_revision + 5)
        answer = await call
        assert (answer.status_code, answer.headers["X-Waspgate-Applied"]) == (201, "2")
        assert answer.json()["key"] == "/apisix/routes/1"


async def test_a_worker_that_leaves_is_waited_for_no_longer(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1), waiting(api, "PUT", "/routes/1?wait=applied", ROUTE) as call:
        await store.delete(worker_key("dp", 1, 101))
        answer = await call
        assert (answer.is_success, answer.headers["X-Waspgate-Applied"]) == (True, "0")


async def test_who_is_late_is_named_when_the_time_is_over(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1, 2):
        await says(store, 2, 10**9)
        answer = await api.call("PUT", "/routes/1?wait=applied&timeout=0.1", ROUTE)
    assert answer.status_code == 504
    body = answer.json()
    assert body["key"] == "/apisix/routes/1"
    assert "not served by 1 worker within 0.1 s" in body["error_msg"]
    assert (body["applied"], body["refused"]) == (1, [])
    (late,) = body["late"]
    assert (late["data_plane"], late["host"], late["worker"], late["revision"]) == ("dp", "host-a", 1, 0)
    # It was written all the same.
    assert (await api.call("GET", "/routes/1")).is_success


async def test_who_cannot_use_the_object_is_named_at_once(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1, 2), waiting(api, "PUT", "/routes/1?wait=applied&timeout=60", ROUTE) as call:
        problems = {"/apisix/routes/2": "another one's", "/apisix/routes/1": "names plugins that cannot run here: [p]"}
        await says(store, 1, 10**9, problems=problems)
        answer = await call
        assert answer.status_code == 502
        assert answer.json()["refused"][0]["reason"] == problems["/apisix/routes/1"]
        assert "cannot use it: names plugins" in answer.json()["error_msg"]


async def test_the_problem_of_an_older_version_counts_for_nothing(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1):
        await says(store, 1, 1, problems={"/apisix/routes/1": "the one before was bad"})
        async with waiting(api, "PUT", "/routes/1?wait=applied", ROUTE) as call:
            await says(store, 1, 10**9)
            assert (await call).is_success


async def test_every_write_can_be_waited_for(api: Admin, store: ConfigStore) -> None:
    await api.ok("PUT", "/routes/1", ROUTE)
    async with live(store, 1):
        await says(store, 1, 10**9)
        for verb, path, body in (
            ("PATCH", "/routes/1", {"desc": "x"}),
            ("PATCH", "/routes/1/desc", "y"),
            ("POST", "/upstreams", NODES),
            ("DELETE", "/routes/1", None),
        ):
            answer = await api.call(verb, f"{path}?wait=applied", body)
            assert (answer.is_success, answer.headers["X-Waspgate-Applied"]) == (True, "1"), (verb, answer.text)


NONSENSE = ("wait=now", "wait=", "wait=applied&timeout=x", "wait=applied&timeout=-1", "wait=applied&timeout=1e9")


async def test_what_is_refused_is_not_waited_for(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1):
        for query in NONSENSE:
            assert "invalid argument" in await api.refused(400, "PUT", f"/routes/9?{query}", ROUTE)
        await api.refused(400, "PUT", "/routes/9?wait=applied&timeout=60", {"uri": 1})
        assert (await api.call("GET", "/routes/9")).status_code == 404


async def test_data_planes_are_shown_with_their_workers(api: Admin, store: ConfigStore) -> None:
    async with live(store, 1, 2):
        await says(store, 2, 9, problems={"/apisix/routes/1": "bad"}, problems_total=1)
        found = await api.ok("GET", "/data_planes")
        (shown,) = found["list"]
        assert found["total"] == 1
        assert (shown["id"], shown["host"], shown["workers"], shown["applied_revision"]) == ("dp", "host-a", 2, 0)
        assert [(one["worker"], one["revision"], one["problems_total"]) for one in shown["live_workers"]] == [
            (1, 0, 0),
            (2, 9, 1),
        ]
        assert await api.ok("GET", "/data_planes/dp") == shown
        await api.refused(404, "GET", "/data_planes/other")
    assert await api.ok("GET", "/data_planes") == {"total": 0, "list": []}
