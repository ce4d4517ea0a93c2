"""Plugins that fail, under either policy: what was held goes on or is dropped, and everything ends once."""

from __future__ import annotations

import pytest

from tests.support.chain import Worker

HEAD = "> GET /p HTTP/1.1|host: h"
ANSWER = "< HTTP/1.1 200 OK|server: up"
REPLY = ["reply 503 wasm_fail_stream", "< HTTP/1.1 503 Reply|content-type: application/json"]
BODY = '< \'{"error_msg":"a plugin of this route failed"}\\n\' eos'


def sent(lines: list[str]) -> list[str]:
    """Without what plugins logged."""
    return [line for line in lines if line[0] in "<>" or line.startswith(("reply", "abort", "cut"))]


@pytest.mark.parametrize("phase", ["context_create", "request_headers"])
def test_closed_in_the_request_s_head(worker: Worker, phase: str) -> None:
    script = f"{phase}#1 trap" if phase == "request_headers" else "request_headers recurse"
    case = worker.open(worker.bind("ok"), worker.bind("bad", script), worker.bind("after"))
    assert case.request(b"body") == [
        *("ok request_headers 2 4 0", "bad request_headers 2 4 0", REPLY[0]),
        *("ok response_headers 2 3 0", REPLY[1], "ok response_body 2 46 1", BODY),
    ]
    assert case.finish() == [f"{name} {end} 2" for name in ("ok", "after") for end in ("done", "log", "delete")]


def test_closed_in_the_request_s_body(worker: Worker) -> None:
    case = worker.open(worker.bind("bad", "request_body#2 trap"))
    assert sent(case.request(b"1", b"2", b"3")) == [HEAD, "> '1'", *REPLY, BODY]


def test_closed_in_the_response_s_head(worker: Worker) -> None:
    case = worker.open(worker.bind("ok", "log get 2 :status"), worker.bind("bad", "response_headers trap"))
    case.request()
    assert sent(case.response(b"x")) == [*REPLY, BODY]
    assert "ok get: OK 503" in case.finish()


def test_closed_in_the_response_s_body(worker: Worker) -> None:
    """Something has left: the client must see that it is not complete."""
    case = worker.open(worker.bind("bad", "response_body#2 trap"))
    case.request()
    assert sent(case.response(b"1", b"2", b"3")) == [ANSWER, "< '1'", "cut wasm_fail_stream"]
    assert case.finish() == []


def test_closed_in_the_response_s_body_before_anything_left(worker: Worker) -> None:
    case = worker.open(worker.bind("ok", "log get 2 :status"), worker.bind("bad", "response_body trap"))
    case.request()
    assert sent(case.response(b"1", b"2", b"3")) == [ANSWER, *REPLY, BODY], "the exchange forgets the first head"
    assert "ok get: OK 503" in case.finish()


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
def test_open_in_every_phase(worker: Worker, phase: str) -> None:
    case = worker.open(worker.bind("ok"), worker.bind("bad", f"{phase} trap", policy="fail_open"), worker.bind("last"))
    assert sent(case.request(b"1", b"2")) == [HEAD, "> '1'", "> '2' eos"]
    assert sent(case.response(b"3", b"4")) == [ANSWER, "< '3'", "< '4' eos"]
    assert worker.journal.failures == ["bad unreachable"]
    assert case.finish() == [f"{name} {end} 2" for name in ("ok", "last") for end in ("done", "log", "delete")]


@pytest.mark.parametrize("phase", ["done", "log", "delete"])
@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
def test_at_the_end_a_failure_changes_nothing(worker: Worker, phase: str, policy: str) -> None:
    bad = worker.bind("bad", f"{phase} trap", policy="fail_open" if policy == "fail_open" else "fail_closed")
    case = worker.open(bad, worker.bind("ok"))
    case.request()
    case.response()
    assert case.finish()[-3:] == ["ok done 2", "ok log 2", "ok delete 2"]
    assert worker.journal.failures == ["bad unreachable"]


# --- a VM that dies while it holds something


def fatal(*script: str) -> tuple[str, ...]:
    return (*script, "configure tick_period 100", "tick trap")


def test_open_with_a_head_that_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("bad", *fatal("request_headers return 1"), policy="fail_open"), worker.bind("ok"))
    case.request(b"one", b"two")
    worker.loop.advance(0.1)
    assert sent(worker.take()) == [HEAD, "> 'one'", "> 'two' eos"]
    assert case.chain.request_backlog == 0


def test_open_with_a_body_that_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("bad", *fatal("request_body return 1"), policy="fail_open"), worker.bind("ok"))
    assert sent(case.request(b"one", b"two")) == [HEAD]
    worker.loop.advance(0.1)
    assert worker.take() == ["bad tick 1", "ok request_body 2 6 1", "> 'onetwo' eos"]


def test_open_with_a_body_that_fails_while_pieces_are_held(worker: Worker) -> None:
    bad = worker.bind("bad", "response_body return 1", "response_body#3 trap", policy="fail_open")
    case = worker.open(bad)
    case.request()
    assert sent(case.response(b"1", b"2", b"3", b"4")) == [ANSWER, "< '123'", "< '4' eos"]


def test_open_with_both_directions_waiting(worker: Worker) -> None:
    script = fatal("request_body return 1", "response_headers return 1")
    case = worker.open(worker.bind("bad", *script, policy="fail_open"))
    case.request(b"q")
    case.response(b"r")
    assert (case.chain.request_backlog, case.chain.response_backlog) == (0, 1)
    worker.loop.advance(0.1)
    assert sent(worker.take()) == ["> 'q' eos", ANSWER, "< 'r' eos"]
    assert (case.chain.request_backlog, case.chain.response_backlog) == (0, 0)


def test_open_after_pieces_went_on_nothing_is_sent_twice(worker: Worker) -> None:
    bad = worker.bind("bad", "request_body#1 return 1", "request_body#4 trap", policy="fail_open")
    case = worker.open(bad)
    assert sent(case.request(b"1", b"2", b"3", b"4", b"5")) == [HEAD, "> '12'", "> '3'", "> '4'", "> '5' eos"]


@pytest.mark.parametrize("waits", ["request_headers", "request_body"])
def test_closed_with_a_request_that_waits(worker: Worker, waits: str) -> None:
    case = worker.open(worker.bind("bad", *fatal(f"{waits} return 1")), worker.bind("ok"))
    case.request(b"one")
    worker.loop.advance(0.1)
    assert sent(worker.take()) == [*REPLY, BODY]
    assert case.chain.request_backlog == 0


def test_closed_with_a_response_that_waits(worker: Worker) -> None:
    case = worker.open(worker.bind("bad", *fatal("response_headers return 1")))
    case.request()
    case.response(b"x")
    worker.loop.advance(0.1)
    assert sent(worker.take()) == [*REPLY, BODY]
    assert case.chain.response_backlog == 0


def test_the_other_streams_of_a_failed_vm_end_by_its_policy(worker: Worker) -> None:
    closed = worker.bind("bad", "request_headers#1 return 1", "request_body return 1", "response_headers trap")
    waiting, failing = worker.open(closed), worker.open(closed)
    waiting.request(b"x")
    failing.request()
    assert sent(failing.response()) == [*REPLY, BODY]
    worker.loop.advance()
    assert sent(worker.take()) == [*REPLY, BODY]
    assert waiting.finish() == failing.finish() == []


def test_a_stream_that_was_between_two_callbacks_notices_at_the_next(worker: Worker) -> None:
    closed = worker.bind("bad", "request_headers#1 log 2 x", "response_headers trap")
    first, second = worker.open(closed), worker.open(closed)
    first.request()
    second.request()
    first.response()
    worker.loop.advance()
    worker.take()
    assert sent(second.response()) == [*REPLY, BODY]
    assert worker.journal.failures == ["bad unreachable"], "one VM failed once"


def test_a_response_that_resumes_a_request_into_a_failing_plugin(worker: Worker) -> None:
    """b's failure is answered in place of the response that is under way; that one is not forwarded as well."""
    case = worker.open(
        worker.bind("a", "request_body return 1", "response_headers continue 0"), worker.bind("b", "request_body trap")
    )
    case.request(b"x")
    assert sent(case.response(b"y")) == [*REPLY, BODY]


def test_a_plugin_that_cannot_start(worker: Worker) -> None:
    case = worker.open(worker.bind("ok"), worker.bind("bad", "configure return 0"), worker.bind("after"))
    assert case.request(b"x")[:3] == ["bad delete 1", "ok request_headers 2 4 0", REPLY[0]]
    case = worker.open(worker.bind("bad", "configure return 0", policy="fail_open"), worker.bind("ok"))
    assert sent(case.request(b"x")) == [HEAD, "> 'x' eos"]
    assert sent(case.response(b"y")) == [ANSWER, "< 'y' eos"]
    assert worker.journal.failures == ["plugin did not start: the plugin answered false to proxy_on_configure"] * 2
