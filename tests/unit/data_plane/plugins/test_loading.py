"""Plugins with timers and queues start when they are configured; all others wait for a request."""

from __future__ import annotations

from data_plane.config.snapshot import PluginBinding, Snapshot
from data_plane.plugins.backoff import FIRST_SECONDS, LONGEST_SECONDS
from tests.support.chain import Worker, bind, snapshot
from tests.support.guest import assemble

PERIOD = '(import "env" "proxy_set_tick_period_milliseconds" (func (param i32) (result i32)))'
REGISTER = '(import "env" "proxy_register_shared_queue" (func (param i32 i32 i32) (result i32)))'
ON_TICK = '(func (export "proxy_on_tick") (param i32))'
ON_READY = '(func (export "proxy_on_queue_ready") (param i32 i32))'


def running(worker: Worker) -> list[str]:
    """Where a context runs."""
    return [slot.binding.owner for slot in worker.runtime._contexts.values() if slot.context is not None]


def serve(worker: Worker, served: Snapshot) -> None:
    worker.runtime.sync(served)


def test_contexts_with_timers_are_made_without_a_request(worker: Worker) -> None:
    plugin = worker.plugin("p")
    routes = [bind(plugin, "configure tick_period 100", owner=f"route/{number}") for number in (1, 2)]
    rule = bind(plugin, owner="global_rule/1")
    served = snapshot(*routes)
    serve(worker, Snapshot(1, served.router, served.routes, (rule,), served.plugins))
    assert running(worker) == []
    worker.loop.advance(0.25)
    assert sorted(running(worker)) == ["global_rule/1", "route/1", "route/2"]
    assert sorted(worker.take()) == ["p tick 2", "p tick 2", "p tick 3", "p tick 3"]


def test_who_runs_by_itself(worker: Worker) -> None:
    modules = {
        "timer": assemble(ON_TICK, imports=PERIOD),
        "queue": assemble(ON_READY, imports=REGISTER),
        "no-period": assemble(ON_TICK),
        "no-tick": assemble(ON_READY, imports=PERIOD),
        "neither": assemble(""),
    }
    bindings = [bind(worker.plugin(name, module=module), owner=f"route/{name}") for name, module in modules.items()]
    denied = worker.plugin("denied", module=modules["timer"], capabilities=frozenset({"proxy_log"}))
    serve(worker, snapshot(*bindings, bind(denied, owner="route/denied")))
    worker.loop.advance(1.0)
    assert sorted(running(worker)) == ["route/queue", "route/timer"]


def test_one_context_at_a_time(worker: Worker) -> None:
    plugin = worker.plugin("p")
    serve(worker, snapshot(*(bind(plugin, owner=f"route/{number}") for number in range(5))))
    for made in range(1, 6):
        assert worker.loop.waiting == 1
        worker.loop.turn()
        assert len(running(worker)) == made
    assert worker.loop.waiting == 0


def test_what_left_the_configuration_meanwhile_is_not_loaded(worker: Worker) -> None:
    plugin = worker.plugin("p")
    first, second = (bind(plugin, owner=f"route/{number}") for number in (1, 2))
    serve(worker, snapshot(first, second))
    serve(worker, snapshot(second))
    worker.loop.advance(1.0)
    assert running(worker) == ["route/2"]
    assert worker.loop.waiting == 0


def test_a_failed_vm_with_timers_is_started_again_without_a_request(worker: Worker) -> None:
    plugin = worker.plugin("p")
    bindings = [bind(plugin, "configure tick_period 1000", owner="route/1"), bind(plugin, "tick trap", owner="route/2")]
    serve(worker, snapshot(*bindings, bind(plugin, "configure tick_period 400", "tick#2 trap", owner="route/3")))
    worker.loop.advance(0.81)
    assert worker.journal.failures == ["p unreachable"]
    assert len(running(worker)) == 0
    worker.loop.advance(FIRST_SECONDS * 1.5)
    assert len(running(worker)) == 3
    assert worker.runtime._records["p"].starts == 2


def test_one_that_refuses_is_asked_again_with_growing_pauses(worker: Worker) -> None:
    binding: PluginBinding = worker.bind("p", "configure return 0")
    serve(worker, snapshot(binding))
    worker.loop.advance(LONGEST_SECONDS * 3)
    assert 8 <= len(worker.journal.failures) <= 13
    worker.runtime.sync(snapshot())
    assert worker.loop.waiting == 0


def test_a_request_that_comes_first_makes_the_context(worker: Worker) -> None:
    binding = worker.bind("p")
    serve(worker, snapshot(binding))
    assert worker.open(binding).request()[0] == "p request_headers 2 4 1"
    worker.loop.advance(1.0)
    assert worker.take() == []
