"""Local replies on their way through the chain: from each phase, from two plugins, and what becomes of what was under way."""

from __future__ import annotations

import pytest

from tests.support.chain import GET, Worker

HEAD = "> GET /p HTTP/1.1|host: h"
ANSWER = "< HTTP/1.1 200 OK|server: up"


def test_a_reply_from_the_request_goes_back_by_the_way_it_came(worker: Worker) -> None:
    """A plugin behind the one that replied has not seen the request: it logs it, and sees no response, as in Envoy."""
    case = worker.open(
        worker.bind("a", "response_headers add 2 a 1"),
        worker.bind("b", "request_headers reply 403 denied no % x=y", "response_headers get 2 x", "log get 2 :status"),
        worker.bind("c", "log get 0 :path", "log get 2 :status"),
    )
    assert case.request(b"never seen") == [
        *("a request_headers 2 4 0", "b request_headers 2 4 0", "reply 403 denied"),
        *("b response_headers 2 4 0", "b get: OK y", "a response_headers 2 4 0"),
        "< HTTP/1.1 403 Reply|content-type: text/plain|x: y|a: 1",
        *("b response_body 2 2 1", "a response_body 2 2 1", "< 'no' eos"),
    ]
    ends = case.finish()
    assert "b get: OK 403" in ends
    assert ends[-5:] == ["c done 2", "c log 2", "c get: OK /p", "c get: OK 403", "c delete 2"]


@pytest.mark.parametrize("answer", [0, 1])
def test_what_the_callback_answered_does_not_matter(worker: Worker, answer: int) -> None:
    case = worker.open(
        worker.bind("a", "request_headers reply 204 % % %", f"request_headers return {answer}"), worker.bind("b")
    )
    assert case.request() == [
        *("a request_headers 2 4 1", "reply 204", "a response_headers 2 2 1", "< HTTP/1.1 204 Reply"),
    ]
    assert case.chain.request_backlog == 0


def test_a_reply_from_the_request_s_body(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_body#2 reply 413 % % %"), worker.bind("b"))
    assert case.request(b"1", b"2", b"3") == [
        *("a request_headers 2 4 0", "b request_headers 2 4 0", HEAD, "a request_body 2 1 0", "b request_body 2 1 0", "> '1'"),
        *("a request_body 2 1 0", "reply 413", "b response_headers 2 2 1", "a response_headers 2 2 1", "< HTTP/1.1 413 Reply"),
    ]


def test_a_reply_in_place_of_a_response_goes_past_all_plugins(worker: Worker) -> None:
    """Every plugin could otherwise answer the answer of another; on_log sees what left."""
    case = worker.open(
        worker.bind("a", "log get 2 :status"),
        worker.bind("b", "response_headers reply 502 % bad% % via=b"),
        worker.bind("c", "log get 2 via"),
    )
    case.request()
    assert case.response(b"never", b"seen") == [
        *(
            "c response_headers 2 2 0",
            "b response_headers 2 2 0",
            "reply 502",
            "< HTTP/1.1 502 Reply|content-type: text/plain|via: b",
            "< 'bad' eos",
        ),
    ]
    ends = case.finish()
    assert "a get: OK 502" in ends
    assert "c get: OK b" in ends


def test_a_reply_to_a_reply_replaces_it_whole(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "response_headers reply 500 second two %"),
        worker.bind("b", "request_headers reply 401 first one %"),
    )
    assert case.request() == [
        *("a request_headers 2 4 1", "b request_headers 2 4 1", "reply 401 first"),
        *("b response_headers 2 3 0", "a response_headers 2 3 0", "reply 500 second"),
        *("< HTTP/1.1 500 Reply|content-type: text/plain", "< 'two' eos"),
    ]
    assert case.finish()[:2] == ["a done 2", "a log 2"]


def test_a_reply_to_one_s_own_reply_does_not_count(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers reply 401 % % %", "response_headers reply 500 % % %"))
    assert case.request() == ["a request_headers 2 4 1", "reply 401", "a response_headers 2 2 1", "< HTTP/1.1 401 Reply"]


def test_no_reply_when_the_response_is_on_its_way(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "response_body reply 500 % % %", "log reply 500 % % %"))
    case.request()
    assert case.response(b"x") == ["a response_headers 2 2 0", ANSWER, "a response_body 2 1 1", "< 'x' eos"]
    assert case.finish() == ["a done 2", "a log 2", "a delete 2"]


def test_a_reply_while_the_request_waits_drops_what_was_held(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "request_headers return 1", "tick effective 2", "tick reply 403 % no %", "configure tick_period 100"),
        worker.bind("b"),
    )
    case.request(b"held")
    assert case.chain.request_backlog == 4
    worker.loop.advance(0.1)
    assert worker.take() == [
        *(
            "a tick 1",
            "reply 403",
            "a response_headers 2 3 0",
            "< HTTP/1.1 403 Reply|content-type: text/plain",
        ),
        *("a response_body 2 2 1", "< 'no' eos"),
    ]
    assert case.chain.request_backlog == 0
    case.chain.request_body(b"late", True)
    assert worker.take() == []


def test_a_reply_that_waits_in_its_response_callback(worker: Worker) -> None:
    case = worker.open(
        worker.bind(
            "a",
            "request_headers reply 403 % no %",
            "response_headers return 1",
            *("tick effective 2", "tick add 2 late yes", "tick continue 1", "configure tick_period 100"),
        )
    )
    assert case.request() == ["a request_headers 2 4 1", "reply 403", "a response_headers 2 3 0"]
    assert case.chain.response_backlog == 2
    worker.loop.advance(0.1)
    assert worker.take() == [
        "a tick 1",
        "< HTTP/1.1 403 Reply|content-type: text/plain|late: yes",
        "a response_body 2 2 1",
        "< 'no' eos",
    ]


def test_a_reply_to_a_waiting_reply(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "tick effective 2", "tick reply 503 % other %", "configure tick_period 100"),
        worker.bind("b", "request_headers reply 403 % no %", "response_headers return 1"),
    )
    case.request()
    worker.loop.advance(0.1)
    assert worker.take() == ["a tick 1", "reply 503", "< HTTP/1.1 503 Reply|content-type: text/plain", "< 'other' eos"]
    assert (case.chain.response_backlog, case.chain.request_backlog) == (0, 0)


def test_a_reply_and_a_resumption_at_once(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "request_headers return 1", "request_headers continue 0", "request_headers reply 403 % % %")
    )
    assert case.request() == ["a request_headers 2 4 1", "reply 403", "a response_headers 2 2 1", "< HTTP/1.1 403 Reply"]


def test_a_plugin_that_let_the_response_pass_does_not_answer_any_more(worker: Worker) -> None:
    """The request waits in b while the response is there already; resumed, its body comes to c, which has seen the response."""
    case = worker.open(
        worker.bind("b", "request_body return 1", "response_headers continue 0"),
        worker.bind("c", "request_body reply 409 % % %"),
    )
    case.request(b"x")
    assert case.response() == [
        *("c response_headers 2 2 1", "b response_headers 2 2 1", "c request_body 2 1 1", "> 'x' eos", ANSWER),
    ]


def test_a_grpc_client_gets_trailers_only(worker: Worker) -> None:
    case = worker.open(
        worker.bind("a", "request_headers reply 403 % n%c3%b6%20100%25%0a 7 Content-Type=text/plain x=y"), worker.bind("b")
    )
    lines = case.request(head=GET + b"content-type: application/grpc\r\n")
    expected = "x: y|content-type: application/grpc|grpc-status: 7|grpc-message: n%C3%B6 100%25%0A"
    assert lines[-1] == f"< HTTP/1.1 200 Reply|{expected}"
    assert case.replies[0].body == b""


def test_duplicates_of_a_reply_s_fields_are_kept(worker: Worker) -> None:
    case = worker.open(worker.bind("a", "request_headers reply 401 % % % hello=one Hello=two"))
    assert case.request()[-1] == "< HTTP/1.1 401 Reply|hello: one|Hello: two"
