"""The watcher as transcripts: what it asks of the store, what it publishes, in which order, through every kind of trouble."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from data_plane.config.watcher import MOST_WAITING
from shared.store.contract import Compacted, StoreUnavailable
from tests.support.config import UPSTREAM, conf, plugin
from tests.support.config_source import ScriptedSource, Worker, eventually, running


def route(uri: str, **fields: object) -> dict[str, object]:
    return {"uri": uri, "upstream": UPSTREAM, **fields}


@pytest.fixture
def source() -> ScriptedSource:
    source = ScriptedSource()
    source.put("routes", "1", route("/1"))
    return source


@pytest.fixture
def worker(source: ScriptedSource) -> Worker:
    return Worker(source)


async def test_it_lists_publishes_and_watches_from_the_next_revision(source: ScriptedSource, worker: Worker) -> None:
    assert not worker.watcher.ready.is_set()
    async with running(worker):
        await worker.watcher.ready.wait()
        source.put("routes", "2", route("/2"))
        await worker.at(2)
        source.delete("routes", "1")
        await worker.at(3)
    assert source.journal == ["list", "publish 1: 1", "watch 2", "publish 2: 1 2", "publish 3: 2"]
    assert source.closed == 1


async def test_an_empty_store_is_a_configuration_too() -> None:
    worker = Worker(ScriptedSource())
    async with running(worker):
        await worker.watcher.ready.wait()
    assert worker.source.journal[:2] == ["list", "publish 0:"]


async def test_a_revision_is_published_whole(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        source.write({("routes", "1"): None, ("routes", "2"): route("/2"), ("routes", "3"): route("/3")})
        await worker.at(2)
    assert source.journal[-1] == "publish 2: 2 3"


async def test_batches_that_wait_are_compiled_together(source: ScriptedSource, worker: Worker) -> None:
    worker.gate = asyncio.Event()
    source.put("wasm_plugins", "a", plugin())
    async with running(worker):
        await eventually(lambda: "list" in source.journal)
        worker.gate.set()
        await worker.at(2)
        worker.gate.clear()
        source.put("wasm_plugins", "b", plugin())
        await eventually(lambda: source.batches and worker.watcher.applied_revision == 2)
        for number in range(2 * MOST_WAITING):
            source.put("routes", str(number % 5), route(f"/{number}"))
        await asyncio.sleep(0)
        assert worker.served == ["1"]
        worker.gate.set()
        await worker.at(3 + 2 * MOST_WAITING)
    published = [line for line in source.journal if line.startswith("publish")]
    assert len(published) <= 6
    assert published[-1] == f"publish {3 + 2 * MOST_WAITING}: 0 1 2 3 4"


async def test_a_module_is_ready_before_its_snapshot_is_published(source: ScriptedSource, worker: Worker) -> None:
    source.put("wasm_plugins", "a", plugin())
    async with running(worker):
        await worker.at(2)
        source.write({("wasm_plugins", "b"): plugin(), ("routes", "2"): route("/2", plugins={"b": conf()})})
        await worker.at(3)
        source.put("routes", "3", route("/3", plugins={"a": conf()}))
        await worker.at(4)
        source.put("wasm_plugins", "a", plugin(desc="the same for a worker"))
        await worker.at(5)
    assert source.journal == [
        "list",
        "prepare a",
        "publish 2: 1",
        "watch 3",
        "prepare b",
        "publish 3: 1 2",
        "publish 4: 1 2 3",
        "publish 5: 1 2 3",
    ]


async def test_an_unusable_module_holds_up_nothing_else(source: ScriptedSource, worker: Worker) -> None:
    worker.unusable["bad"] = "it is no Wasm"
    async with running(worker):
        await worker.at(1)
        source.write({("wasm_plugins", "bad"): plugin(), ("routes", "2"): route("/2")})
        await worker.at(2)
    assert worker.served == ["1", "2"]
    assert list(worker.watcher.problems) == ["/apisix/wasm_plugins/bad"]
    assert "it is no Wasm" in worker.watcher.problems["/apisix/wasm_plugins/bad"]


async def test_a_module_that_cannot_be_fetched_now_is_asked_for_again(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        worker.fetch_fails = 2
        source.put("wasm_plugins", "a", plugin())
        await worker.at(2)
    assert source.journal[-4:] == ["prepare a fails", "prepare a fails", "prepare a", "publish 2: 1"]
    assert worker.watcher.problems == {}


async def test_progress_moves_the_revision_without_a_snapshot(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        source.progress()
        await worker.at(2)
    assert source.journal == ["list", "publish 1: 1", "watch 2"]


async def test_compacted_history_is_listed_again_and_nothing_compiled_twice(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        before = worker.snapshot
        source.break_watch(Compacted(1))
        await eventually(lambda: source.journal.count("list") == 2)
        source.put("routes", "2", route("/2"))
        await worker.at(2)
    assert before is not None
    assert worker.snapshot is not None
    assert worker.snapshot.routes["1"] is before.routes["1"]
    assert source.journal == [
        *("list", "publish 1: 1", "watch 2"),
        *("list", "publish 1: 1", "watch 2", "publish 2: 1 2"),
    ]


async def test_what_came_before_the_end_of_a_watch_is_published(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        source.put("routes", "2", route("/2"))
        source.break_watch(StoreUnavailable("cut"))
        await eventually(lambda: source.journal.count("list") == 2)
    assert source.journal[:5] == ["list", "publish 1: 1", "watch 2", "publish 2: 1 2", "list"]


async def test_a_store_that_is_away_at_the_start_is_waited_for(source: ScriptedSource, worker: Worker) -> None:
    source.away = True
    async with running(worker):
        await eventually(lambda: len(source.journal) >= 3)
        assert not worker.watcher.ready.is_set()
        source.away = False
        await worker.at(1)
    assert worker.watcher.ready.is_set()
    assert source.journal[-3:] == ["list", "publish 1: 1", "watch 2"]


async def test_an_outage_takes_nothing_away_and_is_logged_once(source: ScriptedSource, worker: Worker) -> None:
    with capture_logs() as logs:
        async with running(worker):
            await worker.at(1)
            source.go_away()
            await eventually(lambda: source.journal.count("list fails") >= 3)
            assert worker.served == ["1"]
            assert "waiting for the store" in repr(worker.watcher)
            source.away = False
            source.put("routes", "2", route("/2"))
            await worker.at(2)
            assert "following, revision 2, 0 problems" in repr(worker.watcher)
    assert [entry["event"] for entry in logs] == [
        "config store cannot be reached, serving what is known",
        "config store is reachable again",
    ]


async def test_a_watch_that_ends_is_opened_again(source: ScriptedSource, worker: Worker) -> None:
    async with running(worker):
        await worker.at(1)
        source.end_watch()
        source.put("routes", "2", route("/2"))
        await worker.at(2)
        await eventually(lambda: source.journal.count("watch 3") == 1)


async def test_a_wiped_store_takes_no_routes_away(source: ScriptedSource, worker: Worker) -> None:
    source.put("routes", "2", route("/2"))
    async with running(worker):
        await worker.at(2)
        source.wipe()
        source.put("routes", "3", route("/3"))
        source.break_watch(Compacted(0))
        await eventually(lambda: worker.served == ["1", "2", "3"])
        source.put("routes", "1", route("/1"))
        await eventually(lambda: sorted(worker.watcher.problems) == ["/apisix/routes/2"])


async def test_a_problem_is_logged_once_per_change(source: ScriptedSource, worker: Worker) -> None:
    with capture_logs() as logs:
        async with running(worker):
            await worker.at(1)
            source.put("routes", "1", b"{")
            await worker.at(2)
            source.put("routes", "2", route("/2"))
            await worker.at(3)
            source.put("routes", "1", b"[]")
            await worker.at(4)
            source.put("routes", "1", route("/1"))
            await worker.at(5)
    assert [(entry["log_level"], entry["key"]) for entry in logs] == [
        ("warning", "/apisix/routes/1"),
        ("warning", "/apisix/routes/1"),
        ("info", "/apisix/routes/1"),
    ]
    assert worker.watcher.problems == {}


async def test_a_large_configuration_is_compiled_in_slices(source: ScriptedSource, worker: Worker) -> None:
    for number in range(1000):
        source.put("routes", f"n{number}", route(f"/{number}"))
    async with running(worker):
        await worker.at(source.revision)
        source.put("routes", "last", route("/last"))
        await worker.at(source.revision)
    assert worker.snapshot is not None
    assert len(worker.snapshot.routes) == 1000 + 2


async def test_a_listener_that_fails_is_not_swallowed(source: ScriptedSource, worker: Worker) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug in the worker")

    worker.watcher._on_snapshot = fail
    with pytest.raises(RuntimeError, match="a bug in the worker"):
        await worker.watcher.run()
