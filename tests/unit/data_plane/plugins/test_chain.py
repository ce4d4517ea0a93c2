"""A request's way through its plugins, as transcripts: order, pauses, held bodies, resets and the end."""

from __future__ import annotations

import gc
import weakref

import pytest

from data_plane.config.snapshot import Limits
from tests.support.chain import GET, Case, Worker

HEAD = "> GET /p HTTP/1.1|host: h"
ANSWER = "< HTTP/1.1 200 OK|server: up"


# --- order


def test_the_request_passes_in_order_and_the_response_in_reverse(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "request_headers add 0 a 1", "response_headers add 2 a 1"),
        worker.bind("b", "request_headers add 0 b 2", "response_headers add 2 b 2"),
        worker.bind("c", "request_headers get 0 b", "response_headers get 2 b"),
    )
    assert case.request(b"xy", b"z") == [
        *("a request_headers 2 4 0", "b request_headers 2 5 0", "c request_headers 2 6 0", "c get: OK 2"),
        f"{HEAD}|a: 1|b: 2",
        *("a request_body 2 2 0", "b request_body 2 2 0", "c request_body 2 2 0", "> 'xy'"),
        *("a request_body 2 1 1", "b request_body 2 1 1", "c request_body 2 1 1", "> 'z' eos"),
    ]
    assert case.response(b"12") == [
        *("c response_headers 2 2 0", "c get: NOT_FOUND", "b response_headers 2 2 0", "a response_headers 2 3 0"),
        f"{ANSWER}|b: 2|a: 1",
        *("c response_body 2 2 1", "b response_body 2 2 1", "a response_body 2 2 1", "< '12' eos"),
    ]
    assert case.finish() == [f"{name} {callback} 2" for name in "abc" for callback in ("done", "log", "delete")]


def test_plugins_see_the_framing_and_never_send_it_on(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers get 0 content-length", "request_headers add 0 a 1"))
    case.chain.request_head(GET, b"content-length: 5\r\n", False)
    assert worker.take() == ["a request_headers 2 5 0", "a get: OK 5", f"{HEAD}|a: 1"]


def test_an_untouched_head_goes_on_as_it_came(worker: Worker) -> None:
    case = worker.open(worker.bind("a"), worker.bind("b"))
    head = b"GET /p HTTP/1.1\r\nHOST:  h \r\nX:y\r\n"
    assert case.request(head=head)[-1] == "> GET /p HTTP/1.1|HOST:  h |X:y"


def test_the_last_word_of_every_plugin_sees_what_left(worker: Worker) -> None:
    """The first one's on_log: b changed the request after it; a itself was last to touch the response."""
    case = worker.open(
        worker.bind("a", "log get 0 b", "log get 2 a", "response_headers add 2 a 1"),
        worker.bind("b", "log get 0 b", "log get 2 a", "request_headers add 0 b 2"),
    )
    case.request()
    case.response()
    logged = [line for line in case.finish() if "get" in line]
    assert logged == ["a get: OK 2", "a get: OK 1", "b get: OK 2", "b get: OK 1"]


def test_properties_are_shared_by_the_plugins_of_a_request_only(worker: Worker) -> None:
    bindings = worker.bind("a", "request_headers set_property k v"), worker.bind("b", "request_headers property k")
    assert "b property: OK v" in worker.open(*bindings).request()
    assert "b property: NOT_FOUND" in worker.open(worker.bind("c"), bindings[1]).request()


# --- pauses


def resumer(name: str = "request") -> tuple[str, ...]:
    direction = int(name == "response")
    return f"{name}_headers return 1", "tick effective 2", f"tick add {2 * direction} late yes", f"tick continue {direction}"


def test_a_head_that_waits_holds_what_comes_behind_it(worker: Worker) -> None:
    binding = worker.bind("a", *resumer(), "configure tick_period 100")
    case = worker.open(binding, worker.bind("b"))
    assert case.request(b"four", b"-five") == ["a request_headers 2 4 0"]
    assert case.chain.request_backlog == 9
    worker.loop.advance(0.1)
    assert worker.take() == [
        *("a tick 1", "b request_headers 2 5 0", f"{HEAD}|late: yes"),
        *("a request_body 2 4 0", "b request_body 2 4 0", "> 'four'"),
        *("a request_body 2 5 1", "b request_body 2 5 1", "> '-five' eos"),
    ]
    assert case.chain.request_backlog == 0


def test_a_head_alone_keeps_its_end_of_stream_while_it_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("a", *resumer(), "configure tick_period 100"), worker.bind("b"))
    case.request()
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "b request_headers 2 5 1", f"{HEAD}|late: yes"]


def test_an_empty_last_piece_behind_a_waiting_head_is_not_lost(worker: Worker) -> None:
    case = worker.open(worker.bind("a", *resumer(), "configure tick_period 100"))
    case.request(b"x", b"")
    worker.loop.advance(0.1)
    assert worker.take()[2:] == ["a request_body 2 1 0", "> 'x'", "a request_body 2 0 1", "> '' eos"]


def test_a_response_that_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("b"), worker.bind("a", *resumer("response"), "configure tick_period 100"))
    case.request()
    assert case.response(b"body") == ["a response_headers 2 2 0"]
    assert (case.chain.request_backlog, case.chain.response_backlog) == (0, 4)
    worker.loop.advance(0.1)
    assert worker.take() == [
        *("a tick 1", "b response_headers 2 3 0", f"{ANSWER}|late: yes"),
        *("a response_body 2 4 1", "b response_body 2 4 1", "< 'body' eos"),
    ]
    assert case.chain.response_backlog == 0


def test_resuming_in_the_same_callback_does_not_wait(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers continue 0", "request_headers return 1"), worker.bind("b"))
    assert case.request(b"x")[:3] == ["a request_headers 2 4 0", "b request_headers 2 4 0", HEAD]


def test_resuming_what_does_not_wait_changes_nothing(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers continue 0", "request_headers continue 1", "request_body continue 0"))
    assert case.request(b"x") == ["a request_headers 2 4 0", HEAD, "a request_body 2 1 1", "> 'x' eos"]


def test_resuming_twice_forwards_once(worker: Worker) -> None:
    binding = worker.bind("a", *resumer(), "tick continue 0", "configure tick_period 100")
    case = worker.open(binding)
    case.request()
    worker.loop.advance(0.35)
    assert [line for line in worker.take() if line.startswith(">")] == [f"{HEAD}|late: yes"]


def test_two_plugins_wait_one_after_the_other(worker: Worker) -> None:
    first = worker.bind("a", *resumer(), "configure tick_period 100", "tick tick_period 0")
    second = worker.bind("b", *resumer(), "configure tick_period 250")
    case = worker.open(first, second)
    assert case.request(b"body") == ["a request_headers 2 4 0"]
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "b request_headers 2 5 0", "a request_body 2 4 1"]
    assert case.chain.request_backlog == 4
    worker.loop.advance(0.15)
    assert worker.take() == ["b tick 1", f"{HEAD}|late: yes|late: yes", "b request_body 2 4 1", "> 'body' eos"]
    assert case.chain.request_backlog == 0


def test_a_stream_that_ends_while_it_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("a", *resumer(), "configure tick_period 100"), worker.bind("b"))
    case.request(b"x")
    ends = ["done 2", "log 2", "delete 2"]
    assert case.finish() == [f"{name} {end}" for name in "ab" for end in ends], "b, which it did not reach, logs it too"
    worker.loop.advance(0.1)
    assert [line for line in worker.take() if not line.startswith("a")] == []


def test_a_stream_that_ends_between_the_resumption_and_its_effect(worker: Worker) -> None:
    other = worker.bind("a", *resumer(), "request_headers effective 2", "request_headers continue 0")
    first, second = worker.open(other), worker.open(other)
    first.request()
    second.request()
    first.finish()
    worker.loop.advance()
    assert worker.take() == []


# --- bodies that are held


@pytest.mark.parametrize("direction", ["request", "response"])
def test_held_pieces_come_again_with_the_next(worker: Worker, direction: str) -> None:
    case = worker.open(worker.bind("a", f"{direction}_body#1 return 1"))
    if direction == "response":
        case.request()
    arrow = "<" if direction == "response" else ">"
    lines = case.response(b"four", b"-five", b"six") if direction == "response" else case.request(b"four", b"-five", b"six")
    assert lines[2:] == [
        *(f"a {direction}_body 2 4 0", f"a {direction}_body 2 9 0", f"{arrow} 'four-five'"),
        *(f"a {direction}_body 2 3 1", f"{arrow} 'six' eos"),
    ]


def test_a_held_body_is_resumed_from_elsewhere_and_changed(worker: Worker) -> None:
    binding = worker.bind(
        "a",
        "request_body return 1",
        "tick effective 2",
        "tick set_buffer 0 0 0 <",
        "tick continue 0",
        "configure tick_period 100",
    )
    case = worker.open(binding, worker.bind("b"))
    case.request(b"held", b"!")
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "b request_body 2 6 1", "> '<held!' eos"]


def test_a_held_body_that_is_resumed_before_its_end_goes_on(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_body#1 return 1", "request_body#1 continue 0"))
    assert case.request(b"one", b"two")[2:] == ["a request_body 2 3 0", "> 'one'", "a request_body 2 3 1", "> 'two' eos"]


def test_a_plugin_rewrites_a_whole_body(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "response_body#1 return 1", "response_body#2 set_buffer 1 0 4294967295 new"),
        worker.bind("b", "response_body set_buffer 1 0 0 +"),
    )
    case.request()
    assert [line for line in case.response(b"old", b"er") if line.startswith("<")] == [ANSWER, "< 'new' eos"]


def test_a_body_that_is_too_large_to_hold(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_body return 1", limits=Limits(body_buffer_bytes=6)))
    assert case.request(b"1234", b"567", b"8") == [
        *("a request_headers 2 4 0", HEAD, "a request_body 2 4 0", "a request_body 2 7 0"),
        *("reply 413 wasm_body_too_large", "a response_headers 2 3 0", "< HTTP/1.1 413 Reply|content-type: application/json"),
        "a response_body 2 70 1",
        '< \'{"error_msg":"request body larger than a plugin of this route holds"}\\n\' eos',
    ]


def test_a_response_body_that_is_too_large_to_hold(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "response_body#1 return 1", limits=Limits(body_buffer_bytes=6)))
    case.request()
    assert case.response(b"1234567", b"8", b"9")[3:5] == [
        *("reply 500 wasm_body_too_large", "< HTTP/1.1 500 Reply|content-type: application/json"),
    ]
    case = worker.open(worker.bind("b", "response_body#2 return 1", limits=Limits(body_buffer_bytes=6)))
    case.request()
    assert case.response(b"1234567", b"8901234", b"5")[3:] == [
        *("< '1234567'", "b response_body 2 7 0", "cut wasm_body_too_large"),
    ]


def test_a_head_that_is_too_large_for_a_plugin(worker: Worker) -> None:
    case = worker.open(worker.bind("a"))
    assert case.request(head=GET + b"x: " + b"y" * (1 << 20) + b"\r\n")[0] == "reply 431 wasm_head_too_large"
    case = worker.open(worker.bind("b"))
    case.request()
    lines = case.response(head=b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20) + b"\r\n")
    assert lines[:2] == ["reply 502 wasm_head_too_large", "< HTTP/1.1 502 Reply|content-type: application/json"]


def test_a_head_without_what_it_needs(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers remove 0 :path"))
    assert case.request()[:2] == ["a request_headers 2 4 1", "reply 500 wasm_incomplete_head"]
    case = worker.open(worker.bind("b", "response_headers remove 2 :status"))
    case.request()
    assert case.response()[:3] == [
        *("b response_headers 2 2 1", "reply 500 wasm_incomplete_head", "< HTTP/1.1 500 Reply|content-type: application/json"),
    ]


# --- resets


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
def test_a_reset_ends_everything(worker: Worker, phase: str) -> None:
    case = worker.open(worker.bind("a", f"{phase} close 0"), worker.bind("b"))
    lines = case.request(b"x")
    if phase.startswith("response"):
        lines = case.response(b"y")
    assert "abort a plugin closed the stream" in lines
    assert not [line for line in lines[lines.index("abort a plugin closed the stream") + 1 :] if line[0] in "<>"]
    assert case.response(b"late") == []
    assert [line for line in case.finish() if line.startswith("a")] == ["a done 2", "a log 2", "a delete 2"]


def test_a_reset_forgets_what_was_held(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "request_headers return 1", "tick effective 2", "tick close 1", "configure tick_period 100")
    )
    case.request(b"held")
    assert case.chain.request_backlog == 4
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "abort a plugin closed the stream"]
    assert case.chain.request_backlog == 0
    case.chain.request_body(b"more", True)
    assert (worker.take(), case.chain.request_backlog) == ([], 0)


# --- the end


@pytest.mark.parametrize("progress", ["nothing", "request", "response head", "all"])
def test_every_context_that_was_used_ends_once(worker: Worker, progress: str) -> None:
    case = worker.open(worker.bind("a"), worker.bind("b"))
    if progress != "nothing":
        case.request(b"x")
    if progress == "response head":
        case.chain.response_head(b"HTTP/1.1 200 OK\r\n", b"", False)
    if progress == "all":
        case.response(b"y")
    worker.take()
    ends = [] if progress == "nothing" else [f"{name} {end} 2" for name in "ab" for end in ("done", "log", "delete")]
    assert case.finish() == ends
    assert case.finish() == []


def test_a_sink_that_ends_the_stream_in_a_call_of_the_chain(worker: Worker) -> None:
    """As the exchange does when there is no upstream for the request that a plugin let go."""

    class Impatient(Case):
        def forward_request_head(self, head: bytes) -> None:
            self.journal.lines.append("no upstream")
            self.chain.finish()

    case = Impatient(worker.runtime, (worker.bind("a", *resumer(), "configure tick_period 100"),), worker.journal)
    case.request(b"one", b"two")
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "no upstream", "a done 2", "a log 2", "a delete 2"]


def test_a_finished_chain_is_gone_without_the_collector(worker: Worker) -> None:
    binding = worker.bind("a", "response_headers return 1")
    gc.disable()
    try:
        case = worker.open(binding, worker.bind("b"))
        case.request(b"x")
        case.response(b"y")
        kept = weakref.ref(case.chain)
        case.finish()
        del case
        assert kept() is None
    finally:
        gc.enable()


def test_ids_are_free_again_after_any_end(worker: Worker) -> None:
    binding = worker.bind("a", "request_headers#1 log 2 x")
    for progress in range(3):
        case = worker.open(binding)
        if progress:
            case.request()
        if progress > 1:
            case.response()
        case.finish()
    assert "a request_headers 2 4 1" in worker.open(binding).request()
