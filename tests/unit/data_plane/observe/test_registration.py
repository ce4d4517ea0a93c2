"""A worker's entry in the registry, against a store that a test holds in its hands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from data_plane.observe import registration
from data_plane.observe.registration import Registration
from shared.data_planes import PROBLEM_LENGTH, PROBLEMS_SHOWN, WorkerEntry, data_plane_of, decode, problems_shown
from shared.keys import AWAITED_MARK, worker_key
from shared.store.contract import Entry, LeaseNotFound, Listing, StoreError, StoreRefused, StoreUnavailable
from tests.support.config_source import eventually

ENTRY = WorkerEntry("host", "1.2.3", "127.0.0.1:9080", 2, 1, os.getpid(), 1.0, 7, True, problems={"/apisix/routes/1": "bad"})
KEY = worker_key("dp", 1, os.getpid())


@dataclass
class Held:
    """A store with leases; `refuses` is raised by every call."""

    calls: list[str] = field(default_factory=list)
    entries: dict[str, bytes] = field(default_factory=dict)
    leases: dict[int, set[str]] = field(default_factory=dict)
    refuses: StoreError | None = None
    granted: int = 0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.refuses is not None:
            raise self.refuses

    async def list(self, prefix: str) -> Listing:
        self._called("list")
        found = sorted((key, value) for key, value in self.entries.items() if key.startswith(prefix))
        return Listing(1, tuple(Entry(key, value, 1, 1) for key, value in found))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        self._called("put")
        if lease not in self.leases:
            raise LeaseNotFound(str(lease))
        self.entries[key] = value
        self.leases[lease].add(key)
        return 1

    async def delete(self, key: str) -> bool:
        self._called("delete")
        return self.entries.pop(key, None) is not None

    async def grant_lease(self, ttl_seconds: int) -> int:
        self._called("grant")
        self.granted += 1
        self.leases[self.granted] = set()
        return self.granted

    async def keep_alive(self, lease: int) -> bool:
        self._called("keep")
        return lease in self.leases

    async def revoke_lease(self, lease: int) -> None:
        self._called("revoke")
        for key in self.leases.pop(lease, set()):
            self.entries.pop(key, None)

    def expire(self) -> None:
        for lease in list(self.leases):
            for key in self.leases.pop(lease):
                self.entries.pop(key, None)

    def served(self) -> int:
        entry = decode(self.entries[KEY]) if KEY in self.entries else None
        return -1 if entry is None else entry.revision


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "RETRY_SECONDS", 0.01)


@dataclass
class Worker:
    store: Held
    entry: WorkerEntry = ENTRY
    registration: Registration = field(init=False)

    def __post_init__(self) -> None:
        self.registration = Registration(self.store, "dp", lambda: self.entry)

    def serves(self, revision: int, *, awaited: bool) -> None:
        self.entry = replace(self.entry, revision=revision)
        self.registration.changed(awaited=awaited)


@asynccontextmanager
async def registered(store: Held) -> AsyncIterator[Worker]:
    worker = Worker(store)
    task = asyncio.create_task(worker.registration.run())
    try:
        async with asyncio.timeout(5):
            await worker.registration.tried.wait()
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_entry_is_there_when_it_was_tried_and_gone_when_the_worker_leaves() -> None:
    store = Held()
    async with registered(store):
        assert decode(store.entries[KEY]) == ENTRY
    assert store.entries == {}


async def test_what_somebody_waits_for_is_said_at_once() -> None:
    store = Held()
    async with registered(store) as worker:
        began = asyncio.get_running_loop().time()
        worker.serves(8, awaited=True)
        await eventually(lambda: store.served() == 8)
        assert asyncio.get_running_loop().time() - began < 0.5


async def test_many_changes_that_nobody_waits_for_are_one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "LAZY_SECONDS", 0.2)
    store = Held()
    async with registered(store) as worker:
        for revision in range(8, 108):
            worker.serves(revision, awaited=False)
            await asyncio.sleep(0)
        assert store.calls.count("put") == 1
        await eventually(lambda: store.served() == 107)
        assert store.calls.count("put") == 2


async def test_many_that_somebody_waits_for_are_few_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "PROMPT_SECONDS", 0.2)
    store = Held()
    async with registered(store) as worker:
        for revision in range(8, 108):
            worker.serves(revision, awaited=True)
            await asyncio.sleep(0)
        await eventually(lambda: store.served() == 107)
        assert store.calls.count("put") <= 3


async def test_an_entry_that_expired_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "RENEW_SECONDS", 0.01)
    store = Held()
    async with registered(store):
        await eventually(lambda: "keep" in store.calls)
        store.expire()
        assert store.entries == {}
        await eventually(lambda: store.served() == 7)


async def test_a_store_that_is_away_is_tried_again_and_holds_up_nothing() -> None:
    store = Held(refuses=StoreUnavailable("away"))
    async with registered(store) as worker:
        assert not worker.registration.is_answered
        worker.serves(9, awaited=True)
        store.refuses = None
        await eventually(lambda: store.served() == 9)
        assert worker.registration.is_answered


async def test_a_store_that_refuses_has_answered() -> None:
    async with registered(Held(refuses=StoreRefused("not you"))) as worker:
        assert worker.registration.is_answered


async def test_entries_of_workers_that_crashed_are_taken_out() -> None:
    store = Held()
    # No process has this number: the kernel's are below 2 ** 22.
    dead = worker_key("dp", 1, 2**30)
    foreign = worker_key("other", 1, 2**30)
    for key in (dead, foreign):
        store.entries[key] = replace(ENTRY, pid=2**30).encode()
    async with registered(store):
        assert store.entries.keys() == {KEY, foreign}


def test_keys_that_are_about_no_worker_have_no_data_plane() -> None:
    assert data_plane_of(KEY) == "dp"
    assert data_plane_of(AWAITED_MARK) is None
    assert data_plane_of("/apisix/routes/1") is None


@pytest.mark.parametrize("value", [b"", b"null", b"{}", b"[1]", b'{"host": 1}', b"\xff"])
def test_what_cannot_be_read_is_no_entry(value: bytes) -> None:
    assert decode(value) is None


def test_what_a_later_version_adds_is_left_out() -> None:
    assert decode(ENTRY.encode()[:-1] + b',"moon":"full"}') == ENTRY


def test_problems_of_what_was_written_last_are_always_shown() -> None:
    problems = {f"/apisix/routes/{number}": "x" * 1000 for number in range(100)}
    shown = problems_shown(problems, ["/apisix/routes/99", "/apisix/routes/good"])
    assert next(iter(shown)) == "/apisix/routes/99"
    assert len(shown) == PROBLEMS_SHOWN + 1
    assert {len(text) for text in shown.values()} == {PROBLEM_LENGTH}
