"""The plugins of a worker: contexts made when needed, kept or retired by snapshots, rebuilt after failures, ticking."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from data_plane.config.snapshot import Limits
from data_plane.plugins.backoff import FIRST_SECONDS, FORGIVEN_AFTER_SECONDS, LONGEST_SECONDS, Backoff
from shared.proxy_wasm.binary import ModuleError
from shared.proxy_wasm.contexts import LAST_ID
from shared.proxy_wasm.engine import Engine
from tests.support.chain import Case, KeptEngine, Worker, bind, snapshot
from tests.support.guest import Facts, assemble

HEAD = "> GET /p HTTP/1.1|host: h"
# Longer than the longest first pause: a quarter of jitter.
AFTER_FIRST_PAUSE = FIRST_SECONDS * 1.5
FAILED = "reply 503 wasm_fail_stream"


def run(case: Case) -> list[str]:
    """A request without a body, its response and its end."""
    return [*case.request(), *case.response(), *case.finish()]


def life(number: int, plugin: str = "p") -> list[str]:
    return [
        *(f"{plugin} request_headers {number} 4 1", HEAD),
        *(f"{plugin} response_headers {number} 2 1", "< HTTP/1.1 200 OK|server: up"),
        *(f"{plugin} {end} {number}" for end in ("done", "log", "delete")),
    ]


def vms(worker: Worker) -> int:
    return sum(slot.vm is not None for slot in worker.runtime._vms.values())


# --- contexts


def test_two_routes_in_turn_show_the_ids_of_apisix(worker: Worker) -> None:
    plugin = worker.plugin("p")
    first, second = bind(plugin, owner="route/1"), bind(plugin, owner="route/2")
    seen = [line for binding in (first, second, first, second) for line in worker.open(binding).request()]
    assert seen[::2] == [f"p request_headers {number} 4 1" for number in (2, 4, 5, 6)], "none of them has ended"
    worker = Worker(worker.runtime.engine)
    plugin = worker.plugin("p")
    first, second = bind(plugin, owner="route/1"), bind(plugin, owner="route/2")
    assert [run(worker.open(b)) for b in (first, second, first, second)] == [life(2), life(4), life(2), life(4)]


def test_a_global_rule_and_a_route_have_contexts_of_their_own(worker: Worker) -> None:
    plugin = worker.plugin("p")
    case = worker.open(bind(plugin, owner="global_rule/1"), bind(plugin, owner="route/1"))
    assert case.request() == ["p request_headers 2 4 1", "p request_headers 4 4 1", HEAD]


def test_nothing_runs_before_the_first_request(worker: Worker) -> None:
    binding = worker.bind("p", "configure log 2 configured")
    worker.runtime.sync(snapshot(binding))
    assert vms(worker) == 0
    assert worker.open(binding).request()[0] == "p configured"
    assert vms(worker) == 1


def test_each_plugin_has_a_vm_and_each_binding_a_configuration(worker: Worker) -> None:
    plugin = worker.plugin("p")
    bindings = [bind(plugin, f"request_headers add 0 n {number}", owner=f"route/{number}") for number in range(50)]
    for number in (0, 49, 7, 0):
        assert f"{HEAD}|n: {number}" in worker.open(bindings[number]).request()
    assert vms(worker) == 1
    worker.open(worker.bind("q")).request()
    assert vms(worker) == 2


def test_a_context_that_stays_in_the_snapshot_is_kept(worker: Worker) -> None:
    kept, gone = (bind(worker.plugin("p"), owner=f"route/{name}") for name in ("kept", "gone"))
    run(worker.open(kept))
    run(worker.open(gone))
    worker.runtime.sync(snapshot(kept))
    assert worker.take() == ["p done 1", "p delete 1"]
    assert run(worker.open(kept)) == life(2)


def test_a_retired_context_ends_with_its_last_stream(worker: Worker) -> None:
    plugin = worker.plugin("p")
    old, new = bind(plugin, "log log 2 old"), bind(plugin, "log log 2 new")
    first, second = worker.open(old), worker.open(old)
    first.request()
    worker.runtime.sync(snapshot(new))
    assert worker.take() == []
    assert run(worker.open(new))[-3:] == ["p log 5", "p new", "p delete 5"]
    assert first.response()[0] == "p response_headers 2 2 1"
    assert first.finish() == ["p done 2", "p log 2", "p old", "p delete 2"]
    assert second.request()[0] == "p request_headers 3 4 1", "it had been opened, and reached the plugin only now"
    assert second.finish()[-2:] == ["p done 1", "p delete 1"]


def test_a_plugin_that_left_takes_its_vm_along(worker: Worker) -> None:
    binding, other = worker.bind("p"), worker.bind("q")
    case = worker.open(binding)
    case.request()
    (slot,) = worker.runtime._vms.values()
    worker.runtime.sync(snapshot(other))
    vm = slot.vm
    assert vm is not None
    case.finish()
    assert slot.vm is None
    assert vm.failed is not None
    assert vm.failed.code == "closed"
    assert not worker.runtime._vms


def test_a_changed_plugin_gets_another_vm(worker: Worker) -> None:
    before, after = worker.bind("p", "request_headers add 0 v 1"), worker.bind("p", "request_headers add 0 v 2")
    old = worker.open(before)
    worker.runtime.sync(snapshot(after))
    new = worker.open(after)
    assert (f"{HEAD}|v: 1" in old.request(), f"{HEAD}|v: 2" in new.request()) == (True, True)


def test_a_context_that_is_not_done_lives_on_until_it_says_so(worker: Worker) -> None:
    plugin = worker.plugin("p")
    leaving = bind(plugin, "done return 0", "configure tick_period 100", "tick#3 proxy_done")
    run(worker.open(leaving))
    (slot,) = worker.runtime._vms.values()
    worker.runtime.sync(snapshot(bind(worker.plugin("q"))))
    assert worker.take() == ["p done 1"]
    worker.loop.advance(0.25)
    assert worker.take() == ["p tick 1", "p tick 1"]
    worker.loop.advance(0.5)
    assert worker.take() == ["p tick 1", "p delete 1"]
    assert slot.vm is None
    assert worker.loop.waiting == 0


# --- modules


def test_a_module_that_is_not_there_or_no_plugin(engine: KeptEngine) -> None:
    worker = Worker(engine)
    plugin = worker.plugin("p", module=assemble(""))
    worker.modules.clear()
    missing = Worker(engine)
    with pytest.raises(ValueError, match=rf"module {plugin.sha256} of plugin p is not in the store"):
        asyncio.run(missing.runtime.prepare(plugin))
    missing.modules[plugin.sha256] = b"no plugin"
    with pytest.raises(ModuleError, match="not a Wasm module"):
        asyncio.run(missing.runtime.prepare(plugin))


def test_a_module_that_does_not_fit_answers_by_the_policy(worker: Worker) -> None:
    frame = '(memory (export "memory") 300) (func (export "proxy_abi_version_0_2_1"))'
    module = assemble('(func (export "malloc") (param i32) (result i32) (i32.const 8))', frame)
    small = Limits(memory_bytes=1 << 20)
    assert FAILED in worker.open(bind(worker.plugin("p", module=module, limits=small))).request()
    assert worker.open(bind(worker.plugin("q", module=module, limits=small, policy="fail_open"))).request() == [HEAD]
    assert all("memory" in failure for failure in worker.journal.failures)


def test_a_module_of_a_plugin_that_left_is_forgotten(worker: Worker) -> None:
    gone = worker.bind("p")
    worker.runtime.sync(snapshot())
    assert FAILED in worker.open(gone).request()
    assert worker.journal.failures == [f"plugin did not start: module {gone.plugin.sha256} is not loaded"]


# --- failures


def test_a_vm_is_rebuilt_after_a_pause(worker: Worker) -> None:
    binding = worker.bind("p", "request_headers get 0 x", "response_headers trap")
    case = worker.open(binding)
    case.request()
    assert FAILED in case.response()
    refused = worker.open(binding)
    assert refused.request() == [FAILED, "< HTTP/1.1 503 Reply|content-type: application/json", REFUSED_BODY]
    worker.loop.advance(AFTER_FIRST_PAUSE)
    assert worker.open(binding).request() == ["p request_headers 2 4 1", "p get: NOT_FOUND", HEAD]


REFUSED_BODY = '< \'{"error_msg":"a plugin of this route failed"}\\n\' eos'


def test_every_binding_of_a_failed_vm_starts_anew(worker: Worker) -> None:
    plugin = worker.plugin("p")
    good, bad = bind(plugin, owner="route/1"), bind(plugin, "request_headers trap", owner="route/2")
    assert worker.open(good).request()[0] == "p request_headers 2 4 1"
    worker.open(bad).request()
    assert FAILED in worker.open(good).request()
    worker.loop.advance(AFTER_FIRST_PAUSE)
    assert worker.open(good).request()[0] == "p request_headers 2 4 1"


def test_another_plugin_notices_nothing(worker: Worker) -> None:
    good, bad = worker.bind("good"), worker.bind("bad", "request_headers loop", limits=Limits(callback_cpu_ms=5))
    case = worker.open(good)
    case.request()
    assert FAILED in worker.open(bad).request()
    assert worker.journal.failures == ["bad interrupt"]
    assert case.response()[0] == "good response_headers 2 2 1"


def test_pauses_grow_while_it_keeps_failing(worker: Worker) -> None:
    binding = worker.bind("p", "configure return 0")
    attempts = 0
    for _ in range(100):
        before = len(worker.journal.failures)
        worker.open(binding).request()
        attempts += len(worker.journal.failures) - before
        worker.loop.advance(1.0)
    assert 8 <= attempts <= 13, "after 0.1, 0.2, 0.4 ... 30 seconds, each with a quarter of jitter"


def test_the_pauses_are_bounded_and_forgiven() -> None:
    backoff, now, pauses = Backoff(), 1000.0, []
    for _ in range(20):
        backoff.failed(now)
        began = now
        while backoff.waits(now):
            now += 0.01
        pauses.append(now - began)
    assert pauses[0] <= FIRST_SECONDS * 1.3
    assert LONGEST_SECONDS * 0.7 <= pauses[-1] <= LONGEST_SECONDS * 1.3
    now += FORGIVEN_AFTER_SECONDS
    backoff.failed(now)
    assert not backoff.waits(now + FIRST_SECONDS * 1.3)
    backoff.failed(now)
    backoff.succeeded()
    assert not backoff.waits(now)


def test_a_trap_while_a_context_is_let_go(worker: Worker) -> None:
    plugin = worker.plugin("p")
    leaving, staying = bind(plugin, "done trap", owner="route/1"), bind(plugin, owner="route/2")
    worker.open(staying).request()
    case = worker.open(leaving)
    case.request()
    worker.runtime.sync(snapshot(staying))
    case.finish()
    assert worker.journal.failures == ["p unreachable"]
    worker.loop.advance(AFTER_FIRST_PAUSE)
    worker.take()
    assert worker.open(staying).request()[0] == "p request_headers 2 4 1"


def test_a_stream_too_many_is_answered_by_the_policy(worker: Worker) -> None:
    closed, open_ = worker.bind("closed"), worker.bind("open", policy="fail_open")
    for binding in (closed, open_):
        run(worker.open(binding))
        root = next(slot.context for slot in worker.runtime._contexts.values() if slot.binding is binding)
        assert root is not None
        while root.streams < LAST_ID - 1:
            root.open(Facts())
    assert worker.open(closed).request()[0] == FAILED
    case = worker.open(open_)
    assert [*case.request(), *case.finish()] == [HEAD]


# --- ticks


def test_ticks_come_after_their_period_and_do_not_pile_up(worker: Worker) -> None:
    binding = worker.bind("p", "configure tick_period 250", "tick#3 tick_period 125", "tick#6 tick_period 0")
    worker.open(binding).request()
    worker.take()
    seen = []
    for _ in range(16):
        worker.loop.advance(0.125)
        seen += [worker.loop.now - 1000] * len(worker.take())
    assert seen == [0.25, 0.5, 0.75, 0.875, 1.0, 1.125]
    assert worker.loop.waiting == 0


def test_the_contexts_of_one_vm_tick_on_their_own(worker: Worker) -> None:
    plugin = worker.plugin("p")
    for number, period in ((1, 125), (2, 250)):
        worker.open(bind(plugin, f"configure tick_period {period}", owner=f"route/{number}")).request()
    worker.take()
    worker.loop.advance(1.0)
    assert sorted(worker.take()) == ["p tick 1"] * 8 + ["p tick 3"] * 4


def test_a_trap_in_a_tick_ends_the_vm_and_its_ticks(worker: Worker) -> None:
    binding = worker.bind("p", "configure tick_period 100", "tick#2 trap")
    worker.open(binding).request()
    worker.take()
    worker.loop.advance(5)
    assert worker.take() == ["p tick 1", "p tick 1"]
    assert worker.journal.failures == ["p unreachable"]
    assert worker.loop.waiting == 0


def test_a_context_that_was_refused_does_not_tick(worker: Worker) -> None:
    worker.open(worker.bind("p", "configure tick_period 100", "configure return 0")).request()
    assert worker.loop.waiting == 0


# --- the whole


def test_nothing_is_left_of_ten_thousand_streams(worker: Worker) -> None:
    binding = worker.bind("p", limits=Limits(memory_bytes=1, log_lines_per_second=1_000_000))
    for number in range(10_000):
        case = worker.open(binding)
        case.request()
        if number % 3:
            case.response()
        case.finish()
    (slot,) = worker.runtime._vms.values()
    assert slot.vm is not None
    assert (slot.vm.streams, [root.streams for root in slot.vm.roots.values()]) == ({}, [0])
    assert run(worker.open(binding)) == life(2)


def test_a_worker_that_ends_lets_every_context_know(tmp_path: Path) -> None:
    worker = Worker(Engine(tmp_path))
    run(worker.open(worker.bind("p", "configure tick_period 100"), worker.bind("q")))
    worker.runtime.close()
    assert worker.take() == ["p done 1", "p delete 1", "q done 1", "q delete 1"]
    assert worker.loop.waiting == 0
    assert list(tmp_path.glob("*.code")), "compiled code is kept for the next process"
