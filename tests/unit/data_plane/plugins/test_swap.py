"""A plugin in service is replaced by one that runs already, or not at all."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest

from data_plane.config.snapshot import PluginBinding, WasmPlugin
from data_plane.plugins import swap
from tests.support.chain import Case, KeptEngine, Worker, bind, snapshot
from tests.support.guest import assemble, console

HEAD = "> GET /p HTTP/1.1|host: h"


@pytest.fixture
def worker() -> Worker:
    return Worker(KeptEngine())


def served(worker: Worker, *bindings: PluginBinding) -> tuple[PluginBinding, ...]:
    worker.runtime.sync(snapshot(*bindings))
    return bindings


def new_version(worker: Worker, module: bytes | None = None, **fields: object) -> WasmPlugin:
    """As `Worker.plugin`, of the plugin `p`: raises ValueError when it is not made ready."""
    data = module or console()
    worker.modules[sha256(data).hexdigest()] = data
    plugin = WasmPlugin("p", 0, sha256(data).hexdigest(), **fields)  # type: ignore[arg-type]  # names of its fields
    asyncio.run(worker.runtime.prepare(plugin))
    return plugin


def everything(worker: Worker, *bindings: PluginBinding) -> Case:
    case = worker.open(*bindings)
    case.request()
    return case


def test_a_new_version_is_configured_before_it_is_asked(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p", "configure log 2 configured"))
    everything(worker, old)
    new = bind(new_version(worker), "configure log 2 configured")
    assert worker.take() == ["p configured"]
    served(worker, new)
    worker.take()
    assert worker.open(new).request() == ["p request_headers 2 4 1", HEAD], "not configured again"


def test_old_streams_end_where_they_are(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p", "response_headers add 2 v old"))
    case = everything(worker, old)
    new = bind(new_version(worker), "response_headers add 2 v new")
    served(worker, new)
    later = everything(worker, new)
    assert later.response()[-1].endswith("|v: new")
    assert case.response()[-1].endswith("|v: old")
    assert [*case.finish()] == ["p done 2", "p log 2", "p delete 2", "p done 1", "p delete 1"]


@pytest.mark.parametrize("refusal", ["return 0", "trap"])
def test_one_that_does_not_configure_replaces_nothing(worker: Worker, refusal: str) -> None:
    (first,) = served(worker, worker.bind("p"))
    everything(worker, first)
    trapping = assemble('(func (export "proxy_on_configure") (param i32 i32) (result i32) ' + BODIES[refusal] + ")")
    with pytest.raises(ValueError, match="does not run as the one in service does: ") as caught:
        new_version(worker, trapping)
    assert REASONS[refusal] in str(caught.value)
    assert worker.open(first).request()[-1] == HEAD
    assert worker.runtime.record_of(first.plugin).last_error is not None


BODIES = {"return 0": "(i32.const 0)", "trap": "unreachable"}
REASONS = {"return 0": "answered false to proxy_on_configure", "trap": "unreachable"}


def test_one_that_does_not_start_replaces_nothing(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p"))
    with pytest.raises(ValueError, match="unreachable"):
        new_version(worker, assemble('(func (export "_initialize") unreachable)'))
    assert worker.open(old).request()[-1] == HEAD, "also when nobody has asked for the old one yet"


def test_one_of_several_configurations_is_enough_to_refuse(worker: Worker) -> None:
    plugin = worker.plugin("p")
    bindings = served(worker, *(bind(plugin, str(number), owner=f"route/{number}") for number in range(3)))
    everything(worker, bindings[0])
    # Refuses its third configuration.
    counting = """(global $n (mut i32) (i32.const 0))
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.lt_u (global.get $n) (i32.const 3)))"""
    with pytest.raises(ValueError, match="proxy_on_configure"):
        new_version(worker, assemble(counting))


def test_a_plugin_that_does_not_work_is_replaced_by_whatever_comes(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p", "configure return 0"))
    everything(worker, old)
    trapping = new_version(worker, assemble('(func (export "_initialize") unreachable)'))
    (worse,) = served(worker, bind(trapping))
    assert "reply 503 wasm_fail_stream" in worker.open(worse).request()


def test_what_a_refused_one_has_begun_ends_with_it(worker: Worker) -> None:
    first = bind(worker.plugin("p"), "a", owner="route/1")
    second = bind(first.plugin, "b", owner="route/2")
    served(worker, first, second)
    everything(worker, first, second)
    # Ticks with its first configuration, and refuses its second.
    ticking = """(global $n (mut i32) (i32.const 0))
      (func (export "proxy_on_tick") (param i32) unreachable)
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick (i32.const 100)))
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.lt_u (global.get $n) (i32.const 2)))"""
    worker.loop.advance()
    imported = '(import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))'
    with pytest.raises(ValueError, match="proxy_on_configure"):
        new_version(worker, assemble(ticking, imports=imported))
    assert worker.loop.waiting == 0
    assert worker.open(first).request()[-1] == HEAD


def test_a_version_that_another_overtook_is_let_go(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p", "configure tick_period 100"))
    everything(worker, old).finish()
    new_version(worker)
    last = new_version(worker)
    worker.take()
    served(worker, bind(last, "configure tick_period 100"))
    assert worker.take().count("p done 1") == 2, "the old one and the one that was overtaken"
    assert len(worker.runtime._ticks) == 1


def test_contexts_that_the_new_snapshot_does_not_have_are_let_go(worker: Worker) -> None:
    plugin = worker.plugin("p")
    bindings = served(worker, *(bind(plugin, str(number), owner=f"route/{number}") for number in range(2)))
    streams = everything(worker, *bindings)
    new = new_version(worker)
    worker.take()
    served(worker, bind(new, "0", owner="route/0"), bind(new, "changed", owner="route/1"))
    assert [line for line in worker.take() if "delete" in line] in (["p delete 1"], ["p delete 2"]), "of the new VM"
    streams.finish()


def test_beyond_the_bound_contexts_are_made_by_requests(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "MOST_CONTEXTS", 1)
    plugin = worker.plugin("p")
    script = "configure log 2 configured"
    first, second = served(worker, *(bind(plugin, script, owner=f"route/{number}") for number in range(2)))
    everything(worker, second)
    new = new_version(worker)
    assert worker.take() == ["p configured"]
    first, second = served(worker, *(bind(new, script, owner=f"route/{number}") for number in range(2)))
    worker.take()
    assert worker.open(second).request()[0] != "p configured", "the one in use came first"
    assert worker.open(first).request()[0] == "p configured"


def test_a_worker_that_ends_lets_go_of_one_that_is_ready(worker: Worker) -> None:
    (old,) = served(worker, worker.bind("p"))
    everything(worker, old)
    new_version(worker)
    worker.take()
    worker.runtime.close()
    assert worker.take() == ["p done 1", "p delete 1"] * 2
