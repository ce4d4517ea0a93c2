"""A watcher on the real engines: what is written is served, soon, whole, and after every kind of interruption."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from data_plane.config.snapshot import Snapshot, WasmPlugin
from data_plane.config.watcher import ConfigWatcher
from shared.keys import CONFIG_PREFIX, resource_key
from shared.store.contract import ConfigStore, Delete, Put
from tests.support.config import UPSTREAM
from tests.support.config_source import eventually
from tests.support.etcd import Etcd
from tests.support.store import Backend


@pytest.fixture(scope="module")
def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    server = Etcd(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return Backend(f"sqlite://{tmp_path / 'store.db'}")
    server: Etcd = request.getfixturevalue("etcd_server")
    return Backend(server.url, server)


@pytest.fixture
async def backend(place: Backend) -> Backend:
    """Empty: the etcd is shared by the tests of this file."""
    async with place.open() as store:
        left_over = await store.list(CONFIG_PREFIX)
        if left_over.entries:
            await store.transaction([], [Delete(entry.key) for entry in left_over.entries])
    return place


class Follower:
    def __init__(self, store: ConfigStore) -> None:
        self.snapshots: list[Snapshot] = []
        self.watcher = ConfigWatcher(store, self._prepare, self.snapshots.append)

    async def _prepare(self, plugin: WasmPlugin) -> None:
        raise ValueError("these tests have no modules")

    @property
    def served(self) -> dict[str, str]:
        return {id: route.name for id, route in self.snapshots[-1].routes.items()} if self.snapshots else {}

    async def serves(self, expected: dict[str, str]) -> None:
        with suppress(TimeoutError):
            await eventually(lambda: self.served == expected)
        assert self.served == expected


@asynccontextmanager
async def following(backend: Backend) -> AsyncIterator[Follower]:
    async with backend.open() as store:
        follower = Follower(store)
        task = asyncio.create_task(follower.watcher.run())
        try:
            yield follower
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def put(id: str, name: str) -> Put:
    value = {"uri": f"/{id}", "name": name, "upstream": UPSTREAM}
    return Put(resource_key("routes", id), json.dumps(value).encode())


async def test_writes_are_served_by_every_worker(backend: Backend) -> None:
    async with backend.open() as writer:
        await writer.transaction([], [put("1", "before")])
        async with following(backend) as one, following(backend) as two:
            for worker in (one, two):
                await worker.serves({"1": "before"})
            await writer.transaction([], [put("1", "after"), put("2", "new")])
            for worker in (one, two):
                await worker.serves({"1": "after", "2": "new"})
            await writer.delete(resource_key("routes", "1"))
            for worker in (one, two):
                await worker.serves({"2": "new"})


async def test_transactions_are_never_seen_in_halves(backend: Backend) -> None:
    async with backend.open() as writer, following(backend) as worker:
        await worker.watcher.ready.wait()
        for number in range(100):
            await writer.transaction([], [put(id, str(number)) for id in "abc"])
        await worker.serves(dict.fromkeys("abc", "99"))
    seen = [{route.name for route in snapshot.routes.values()} for snapshot in worker.snapshots]
    assert all(len(names) <= 1 for names in seen)
    revisions = [snapshot.revision for snapshot in worker.snapshots]
    assert revisions == sorted(revisions)


async def test_a_worker_that_starts_amid_writes_misses_none(backend: Backend) -> None:
    async with backend.open() as writer:

        async def write() -> None:
            for number in range(60):
                await writer.transaction([], [put(str(number % 20), str(number))])

        writing = asyncio.create_task(write())
        async with following(backend) as worker:
            await writing
            await worker.serves({str(number % 20): str(number) for number in range(40, 60)})


async def test_history_that_is_compacted_away_is_no_loss(backend: Backend) -> None:
    async with backend.open() as writer, following(backend) as worker:
        for number in range(5):
            await writer.transaction([], [put("1", str(number))])
        await backend.compact(writer, await writer.revision())
        await writer.transaction([], [put("2", "later")])
        await worker.serves({"1": "4", "2": "later"})


@pytest.fixture
async def own_etcd(tmp_path: Path) -> AsyncIterator[Etcd]:
    """A server that the test may hurt."""
    server = Etcd(tmp_path)
    await server.start()
    yield server
    server.kill()


async def test_a_killed_etcd_takes_nothing_away_and_its_return_is_noticed(own_etcd: Etcd) -> None:
    backend = Backend(own_etcd.url, own_etcd)
    async with backend.open() as writer, following(backend) as worker:
        await writer.transaction([], [put("1", "before")])
        await worker.serves({"1": "before"})
        own_etcd.kill()
        assert worker.served == {"1": "before"}
        await own_etcd.start()
        await writer.transaction([], [put("2", "after")])
        await worker.serves({"1": "before", "2": "after"})


async def test_a_wiped_etcd_takes_nothing_away_and_new_writes_count(own_etcd: Etcd) -> None:
    backend = Backend(own_etcd.url, own_etcd)
    async with backend.open() as writer, following(backend) as worker:
        for number in range(5):
            await writer.transaction([], [put("1", str(number)), put("2", str(number))])
        await worker.serves({"1": "4", "2": "4"})
        own_etcd.kill()
        own_etcd.wipe()
        await own_etcd.start()
        await writer.transaction([], [put("2", "new"), put("3", "new")])
        await worker.serves({"1": "4", "2": "new", "3": "new"})
        assert list(worker.watcher.problems) == [resource_key("routes", "1")]
