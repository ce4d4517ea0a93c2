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
        assert stream.request_head(GET, True) == b"GET /p HTTP/1.1\r\nhost: h\r\na: b\r\n"
        assert worker.take() == ["p request_headers 2 4 1"]
        assert stream.last_response(OK, False) == b"HTTP/1.1 200 OK\r\nserver: up\r\nc: d\r\n"
        assert worker.take() == ["p response_headers 2 2 0", *ENDS]
    assert streams(worker) == 0


def test_a_response_in_pieces_ends_when_it_is_said(worker: Worker) -> None:
    stream = opened(worker, heads(worker))
    assert stream.request_head(GET, True) == b""
    assert stream.response_head(OK, False) == b""
    assert worker.take()[-1] == "p response_headers 2 2 0"
    worker.runtime.finish(stream)
    assert worker.take() == ENDS
    assert streams(worker) == 0


def test_nothing_to_say_is_nothing_to_look_at(worker: Worker) -> None:
    stream = opened(worker, ready(worker, bind(worker.plugin("p", module=assemble(SILENT)))))
    assert (stream.request_head(GET, True), stream.last_response(OK, True)) == (b"", b"")
    assert streams(worker) == 0


@pytest.mark.parametrize("answer", ["return 1", "reply 403 % no %", "close 1"])
def test_another_answer_to_a_whole_response_leaves_the_stream_to_a_chain(worker: Worker, answer: str) -> None:
    stream = opened(worker, heads(worker, f"response_headers {answer}"))
    stream.request_head(GET, True)
    worker.take()
    assert stream.last_response(OK, True) is None
    assert "p done 2" not in worker.take()
    assert isinstance(getattr(stream, "answered", None), Outcome)
    assert streams(worker) == 1


@pytest.mark.parametrize("callback", ["done", "log", "delete"])
def test_a_trap_in_a_last_callback_spoils_no_response(worker: Worker, callback: str) -> None:
    stream = opened(worker, heads(worker, "response_headers add 2 c d", f"{callback} trap"))
    stream.request_head(GET, True)
    assert stream.last_response(OK, True) == b"HTTP/1.1 200 OK\r\nserver: up\r\nc: d\r\n"
    assert worker.journal.failures == ["p unreachable"]
    assert streams(worker) == 0


def test_a_trap_in_a_silent_last_callback(worker: Worker) -> None:
    stream = opened(worker, ready(worker, bind(worker.plugin("p", module=assemble(SILENT + TRAPS)))))
    stream.request_head(GET, True)
    assert stream.last_response(OK, True) == b""
    assert worker.journal.failures == ["p unreachable"]


def test_a_trap_in_the_response_is_the_chains(worker: Worker) -> None:
    binding = heads(worker, "response_headers trap")
    stream = opened(worker, binding)
    stream.request_head(GET, True)
    assert stream.last_response(OK, True) is None
    assert worker.journal.failures == [], "the chain that takes over reports it"


def test_a_vm_that_failed_meanwhile(worker: Worker) -> None:
    plugin = worker.plugin("p", module=console("NO_BODIES"))
    good, bad = ready(worker, bind(plugin)), ready(worker, bind(plugin, "request_headers trap", owner="route/2"))
    stream, other = opened(worker, good), opened(worker, bad)
    stream.request_head(GET, True)
    assert other.request_head(GET, True) is None
    assert stream.last_response(OK, True) is None


def test_a_retired_context_ends_with_its_last_stream(worker: Worker) -> None:
    stream = opened(worker, heads(worker))
    stream.request_head(GET, True)
    worker.runtime.sync(snapshot())
    assert worker.take() == ["p request_headers 2 4 1"]
    stream.last_response(OK, True)
    assert worker.take() == ["p response_headers 2 2 1", *ENDS, "p done 1", "p delete 1"]


def test_a_limit_on_a_streams_time_wants_a_chain(worker: Worker) -> None:
    binding = heads(worker, limits=Limits(stream_cpu_ms=100))
    assert worker.runtime.open_stream((binding,), Facts()) is None
