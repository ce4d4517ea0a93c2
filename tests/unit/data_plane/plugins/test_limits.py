"""What a plugin may use beyond one callback's time and memory, and how soon one that failed is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from data_plane.config.snapshot import Limits
from data_plane.plugins.backoff import FIRST_SECONDS, RELOAD_SECONDS
from data_plane.plugins.sharing import HostSharing
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.host_state import HostState
from tests.support.chain import Worker, bind
from tests.support.guest import assemble

HEAD = "> GET /p HTTP/1.1|host: h"
FAILED = "reply 503 wasm_fail_stream"
CUT = "p plugin's stream is cut"

# Each piece of a request's body takes some ten milliseconds.
BURNER = assemble("""
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (local $n i32)
    (loop $more
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $n) (i32.const 20000000))))
    (i32.const 0))
""")
ENDLESS = {"callback_cpu_ms": 60_000}


# --- CPU time of a stream


def test_a_stream_that_used_its_time_up_ends_by_the_policy_and_its_vm_lives_on(worker: Worker) -> None:
    limits = Limits(stream_cpu_ms=1, **ENDLESS)
    plugin = worker.plugin("p", module=BURNER, limits=limits)
    binding = bind(plugin)
    assert worker.open(binding).request(b"one") == [HEAD, "> 'one' eos"]
    case = worker.open(binding)
    assert case.request(b"one", b"two", b"three")[1:4] == ["> 'one'", CUT, FAILED]
    case.finish()
    (slot,) = worker.runtime._vms.values()
    assert (slot.vm is not None, slot.record.streams_cut, slot.record.failures) == (True, 1, 0)
    assert worker.open(binding).request(b"one") == [HEAD, "> 'one' eos"]


def test_a_stream_under_fail_open_goes_on_without_the_plugin(worker: Worker) -> None:
    limits = Limits(stream_cpu_ms=1, **ENDLESS)
    binding = bind(worker.plugin("p", module=BURNER, limits=limits, policy="fail_open"))
    assert worker.open(binding).request(b"one", b"two") == [HEAD, "> 'one'", CUT, "> 'two' eos"]


def test_without_a_limit_a_stream_takes_what_it_wants(worker: Worker) -> None:
    binding = bind(worker.plugin("p", module=BURNER, limits=Limits(**ENDLESS)))
    assert worker.open(binding).request(b"one", b"two") == [HEAD, "> 'one'", "> 'two' eos"]
    (slot,) = worker.runtime._vms.values()
    assert slot.record.streams_cut == 0
    slot.measure()
    assert slot.record.cpu_seconds > 0.002


# --- log lines


def test_lines_beyond_the_rate_are_dropped_and_counted(worker: Worker) -> None:
    binding = worker.bind("p", *["request_headers log 2 line"] * 10, limits=Limits(log_lines_per_second=8))
    (said, *_), rest = worker.open(binding).request(), worker.take()
    assert (said, rest) == ("p request_headers 2 4 1", [])
    assert worker.runtime._records["p"].log_lines_dropped == 0
    worker.loop.advance(1.0)
    assert worker.take() == ["p plugin logs too much"]
    # context_create twice, vm_start, configure, request_headers, and for each line the command's own OK.
    dropped = 5 + 2 * 10 - 8
    assert worker.runtime._records["p"].log_lines_dropped == dropped
    assert worker.open(binding).request()[:3] == ["p request_headers 3 4 1", "p line", "p line"]
    worker.loop.advance(10.0)
    assert worker.take() == ["p plugin logs too much"]


def test_a_plugin_within_its_rate_loses_nothing(worker: Worker) -> None:
    binding = worker.bind("p", "configure tick_period 250", "tick log 2 line", limits=Limits(log_lines_per_second=20))
    worker.open(binding).request()
    worker.loop.advance(60)
    assert worker.take().count("p line") == 240
    assert worker.runtime._records["p"].log_lines_dropped == 0


# --- shared data


async def test_each_plugin_has_its_own_limit_of_shared_data(tmp_path: Path) -> None:
    sharing = HostSharing(HostState(tmp_path / "state"), asyncio.get_running_loop(), lambda context, queue: None)
    small, large = sharing.services("small", 1000), sharing.services("large", 100_000)
    try:
        assert small.set_data(b"k", bytes(800), 0) is Status.OK
        assert small.set_data(b"l", bytes(800), 0) is Status.INTERNAL_FAILURE
        assert small.set_data(b"k", bytes(850), 0) is Status.OK
        assert large.set_data(b"k", bytes(50_000), 0) is Status.OK
        assert large.set_data(b"l", bytes(60_000), 0) is Status.INTERNAL_FAILURE
    finally:
        sharing.close()


# --- capabilities


def test_one_module_runs_with_two_sets_of_capabilities(worker: Worker) -> None:
    script = "request_headers add 0 a b"
    bound = bind(worker.plugin("bound", capabilities=frozenset({"proxy_log", "proxy_get_buffer_bytes"})), script)
    free = bind(worker.plugin("free"), script)
    assert worker.open(bound).request()[1:] == ["bound add: INTERNAL_FAILURE", HEAD]
    assert worker.open(free).request()[1:] == [f"{HEAD}|a: b"]


# --- fail_reload


def test_a_vm_that_ran_long_enough_is_reloaded_for_the_next_request(worker: Worker) -> None:
    binding = worker.bind("p", "request_headers#2 trap", "response_headers trap", policy="fail_reload")
    case = worker.open(binding)
    case.request()
    worker.loop.advance(RELOAD_SECONDS * 1.5)
    assert FAILED in case.response()
    assert worker.open(binding).request()[-1] == HEAD, "no pause at all"
    assert worker.runtime._records["p"].starts == 2


def test_a_vm_that_fails_again_soon_waits_until_a_second_after_its_start(worker: Worker) -> None:
    binding = worker.bind("p", "response_headers trap", policy="fail_reload")
    starts = worker.loop.now
    for _ in range(5):
        case = worker.open(binding)
        case.request()
        assert FAILED in case.response(), "and it does not grow"
        while FAILED in worker.open(binding).request():
            worker.loop.advance(0.01)
        waited, starts = worker.loop.now - starts, worker.loop.now
        assert RELOAD_SECONDS <= waited <= RELOAD_SECONDS * 1.5 + 0.02


def test_a_plugin_that_does_not_start_is_not_reloaded_every_second(worker: Worker) -> None:
    module = assemble('(func (export "_initialize") unreachable)')
    binding = bind(worker.plugin("p", module=module, policy="fail_reload"))
    for _ in range(100):
        assert FAILED in worker.open(binding).request()
        worker.loop.advance(1.0)
    assert 8 <= len(worker.journal.failures) <= 13


def test_fail_closed_waits_after_the_failure(worker: Worker) -> None:
    binding = worker.bind("p", "response_headers trap")
    case = worker.open(binding)
    case.request()
    worker.loop.advance(RELOAD_SECONDS * 1.5)
    case.response()
    assert FAILED in worker.open(binding).request()
    worker.loop.advance(FIRST_SECONDS * 1.5)
    assert worker.open(binding).request()[-1] == HEAD
