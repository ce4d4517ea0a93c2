"""A plugin's stream without a chain: heads that pass, the end in the call that passes a whole response, and what stops it."""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import Limits, PluginBinding
from data_plane.plugins.interface import PluginStream
from shared.proxy_wasm.outcome import Outcome
from tests.support.chain import GET, OK, Worker, bind, snapshot
from tests.support.guest import Facts, assemble, console

# Callbacks that say nothing, so that there is nothing to look at.
SILENT = """
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
"""
TRAPS = '(func (export "proxy_on_log") (param i32) (unreachable))'


def heads(worker: Worker, *script: str, limits: Limits | None = None) -> PluginBinding:
    """A plugin without body callbacks on route 1, whose context stands."""
    return ready(worker, bind(worker.plugin("p", module=console("NO_BODIES"), limits=limits), *script))


def ready(worker: Worker, binding: PluginBinding) -> PluginBinding:
    worker.open(binding).finish()
    worker.take()
    return binding


def opened(worker: Worker, binding: PluginBinding) -> PluginStream:
    stream = worker.runtime.open_stream((binding,), Facts())
    assert stream is not None
    return stream


def streams(worker: Worker) -> int:
    return sum(len(slot.vm.streams) for slot in worker.runtime._vms.values() if slot.vm is not None)


ENDS = ["p done 2", "p log 2", "p delete 2"]


def test_a_whole_response_ends_the_stream(worker: Worker) -> None:
    binding = heads(worker, "request_headers add 0 a b", "response_headers add 2 c d")
    for _ in range(2):
        stream = opened(worker, binding)
        assert stream.request_head(GET, b"", True) == b"GET /p HTTP/1.1\r\nhost: h\r\na: b\r\n"
        assert worker.take() == ["p request_headers 2 4 1"]
        assert stream.last_response(OK, b"", False) == b"HTTP/1.1 200 OK\r\nserver: up\r\nc: d\r\n"
        assert worker.take() == ["p response_headers 2 2 0", *ENDS]
    assert streams(worker) == 0


def test_a_response_in_pieces_ends_when_it_is_said(worker: Worker) -> None:
    stream = opened(worker, heads(worker))
    assert stream.request_head(GET, b"", True) == b""
    assert stream.response_head(OK, b"", False) == b""
    assert worker.take()[-1] == "p response_headers 2 2 0"
    worker.runtime.finish(stream)
    assert worker.take() == ENDS
    assert streams(worker) == 0


def test_nothing_to_say_is_nothing_to_look_at(worker: Worker) -> None:
    stream = opened(worker, ready(worker, bind(worker.plugin("p", module=assemble(SILENT)))))
    assert (stream.request_head(GET, b"", True), stream.last_response(OK, b"", True)) == (b"", b"")
    assert streams(worker) == 0


@pytest.mark.parametrize("answer", ["return 1", "reply 403 % no %", "close 1"])
def test_another_answer_to_a_whole_response_leaves_the_stream_to_a_chain(worker: Worker, answer: str) -> None:
    stream = opened(worker, heads(worker, f"response_headers {answer}"))
    stream.request_head(GET, b"", True)
    worker.take()
    assert stream.last_response(OK, b"", True) is None
    assert "p done 2" not in worker.take()
    assert isinstance(getattr(stream, "answered", None), Outcome)
    assert streams(worker) == 1


@pytest.mark.parametrize("callback", ["done", "log", "delete"])
def test_a_trap_in_a_last_callback_spoils_no_response(worker: Worker, callback: str) -> None:
    stream = opened(worker, heads(worker, "response_headers add 2 c d", f"{callback} trap"))
    stream.request_head(GET, b"", True)
    assert stream.last_response(OK, b"", True) == b"HTTP/1.1 200 OK\r\nserver: up\r\nc: d\r\n"
    assert worker.journal.failures == ["p unreachable"]
    assert streams(worker) == 0


def test_a_trap_in_a_silent_last_callback(worker: Worker) -> None:
    stream = opened(worker, ready(worker, bind(worker.plugin("p", module=assemble(SILENT + TRAPS)))))
    stream.request_head(GET, b"", True)
    assert stream.last_response(OK, b"", True) == b""
    assert worker.journal.failures == ["p unreachable"]


def test_a_trap_in_the_response_is_the_chains(worker: Worker) -> None:
    binding = heads(worker, "response_headers trap")
    stream = opened(worker, binding)
    stream.request_head(GET, b"", True)
    assert stream.last_response(OK, b"", True) is None
    assert worker.journal.failures == [], "the chain that takes over reports it"


def test_a_vm_that_failed_meanwhile(worker: Worker) -> None:
    plugin = worker.plugin("p", module=console("NO_BODIES"))
    good, bad = ready(worker, bind(plugin)), ready(worker, bind(plugin, "request_headers trap", owner="route/2"))
    stream, other = opened(worker, good), opened(worker, bad)
    stream.request_head(GET, b"", True)
    assert other.request_head(GET, b"", True) is None
    assert stream.last_response(OK, b"", True) is None


def test_a_retired_context_ends_with_its_last_stream(worker: Worker) -> None:
    stream = opened(worker, heads(worker))
    stream.request_head(GET, b"", True)
    worker.runtime.sync(snapshot())
    assert worker.take() == ["p request_headers 2 4 1"]
    stream.last_response(OK, b"", True)
    assert worker.take() == ["p response_headers 2 2 1", *ENDS, "p done 1", "p delete 1"]


def test_a_limit_on_a_streams_time_wants_a_chain(worker: Worker) -> None:
    binding = heads(worker, limits=Limits(stream_cpu_ms=100))
    assert worker.runtime.open_stream((binding,), Facts()) is None


# --- one that is used again


def numbered(worker: Worker, binding: PluginBinding, count: int) -> list[tuple[PluginStream, str]]:
    """So many streams at once, with the ids that the plugin sees."""
    opened_ones = [opened(worker, binding) for _ in range(count)]
    found = []
    for stream in opened_ones:
        stream.request_head(GET, b"", True)
        found.append((stream, worker.take()[0].split()[2]))
    return found


def test_ids_are_used_again_smallest_first_whatever_way_they_ended(worker: Worker) -> None:
    binding = heads(worker)
    (a, _), (b, _), (c, _) = three = numbered(worker, binding, 3)
    assert [number for _, number in three] == ["2", "3", "4"]
    for stream in (c, a, b):
        stream.last_response(OK, b"", True)
    worker.take()
    assert [number for _, number in numbered(worker, binding, 4)] == ["2", "3", "4", "5"]


def test_an_id_that_a_chain_gave_back_comes_before_one_that_is_kept(worker: Worker) -> None:
    binding = heads(worker)
    chain = worker.open(binding)
    chain.request()
    [(stream, number)] = numbered(worker, binding, 1)
    assert number == "3"
    stream.last_response(OK, b"", True)
    chain.finish()
    worker.take()
    assert [number for _, number in numbered(worker, binding, 2)] == ["2", "3"]


def test_a_kept_stream_knows_nothing_of_the_request_before(worker: Worker) -> None:
    binding = heads(worker, "request_headers property user", "request_headers set_property user bob")
    for _ in range(3):
        stream = opened(worker, binding)
        stream.request_head(GET, b"", True)
        assert worker.take()[1] == "p property: NOT_FOUND"
        stream.last_response(OK, b"", True)
        worker.take()


def test_what_another_context_does_to_a_stream_that_is_over_reaches_no_other_request(worker: Worker) -> None:
    plugin = worker.plugin("p", module=console("NO_BODIES"))
    quiet = ready(worker, bind(plugin))
    loud = ready(worker, bind(plugin, "request_headers effective 2", "request_headers close 1", owner="route/2"))
    victim = opened(worker, quiet)
    victim.request_head(GET, b"", True)
    opened(worker, loud).request_head(GET, b"", True)
    assert victim.last_response(OK, b"", True) is None, "it is told with its next head"
    worker.runtime.finish(victim)
    after = opened(worker, quiet)
    after.request_head(GET, b"", True)
    worker.loop.advance()
    assert after.last_response(OK, b"", True) == b""


def test_the_ids_of_a_context_that_is_gone_are_the_vms_again(worker: Worker) -> None:
    plugin = worker.plugin("p", module=console("NO_BODIES"))
    first = ready(worker, bind(plugin))
    stream = opened(worker, first)
    stream.request_head(GET, b"", True)
    stream.last_response(OK, b"", True)
    keeps = bind(plugin, owner="route/2")
    worker.runtime.sync(snapshot(keeps))
    worker.take()
    assert worker.open(keeps).request()[0].startswith("p request_headers 2 ")
