"""The transcripts of requests without plugins: what happens, and what is said to whom."""

from __future__ import annotations

import pytest

from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE
from data_plane.exchange.sending import DONE, HIGH_WATER_BYTES, STATES
from tests.support.exchange import Stage

GET = "GET /p HTTP/1.1|Host: t||"
POST = "POST /p HTTP/1.1|Host: t|"
NOT_FOUND = "HTTP/1.1 404 Not Found|Content-Type: application/json|Server: waspgate|Content-Length: 36|"


def test_a_pooled_connection_serves_a_request() -> None:
    stage = Stage(idle=("a",))
    assert stage.request() == [f"a.begin {GET} timeout 3"]
    assert stage.response(b"hi", length=2) == ["a.release", "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep"]
    assert stage.exchange.state == DONE


def test_a_connection_is_opened_when_none_is_idle() -> None:
    stage = Stage()
    assert stage.request() == ["connect a"]
    assert stage.connected() == [f"a.begin {GET} timeout 3"]
    assert stage.response() == ["a.release", "client.finish HTTP/1.1 200 X|Content-Length: 0|| keep"]


def test_the_parts_of_a_response_go_on_as_they_come() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    assert stage.response(b"one", length=9) == ["client.send HTTP/1.1 200 X|Content-Length: 9||one"]
    stage.exchange.upstream_body(b"two", False)
    stage.exchange.upstream_body(b"end", True)
    assert stage.take() == ["client.send two", "a.release", "client.finish end keep"]


def test_chunks_are_framed_anew() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    assert stage.response(length=CHUNKED) == ["client.send HTTP/1.1 200 X|Transfer-Encoding: chunked||"]
    stage.exchange.upstream_body(b"body", False)
    stage.exchange.upstream_body(b"", True)
    assert stage.take() == ["client.send 4|body|", "a.release", "client.finish 0|| keep"]


def test_a_whole_chunked_response_is_one_write() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    said = stage.response(b"body", length=CHUNKED, eos=True)
    assert said[1] == "client.finish HTTP/1.1 200 X|Transfer-Encoding: chunked||4|body|0|| keep"


@pytest.mark.parametrize("length", [CHUNKED, UNTIL_CLOSE])
def test_an_old_client_reads_an_unknown_length_until_the_end(length: int) -> None:
    stage = Stage(idle=("a",))
    stage.request(minor=0)
    assert stage.response(b"x", length=length) == ["client.send HTTP/1.1 200 X|Connection: close||x"]
    stage.exchange.upstream_body(b"y", True)
    assert stage.take() == ["a.release", "client.finish y close"]


def test_an_old_client_that_keeps_its_connection_is_told_so() -> None:
    stage = Stage(idle=("a",))
    stage.request(minor=0)
    assert stage.response()[1] == "client.finish HTTP/1.1 200 X|Content-Length: 0|Connection: keep-alive|| keep"


@pytest.mark.parametrize(
    ("method", "status", "length", "framing"),
    [
        (b"HEAD", 200, 5, "Content-Length: 5|"),
        (b"HEAD", 200, CHUNKED, ""),
        (b"GET", 204, UNTIL_CLOSE, ""),
        (b"GET", 204, 5, ""),
        (b"GET", 304, 5, "Content-Length: 5|"),
        (b"GET", 304, CHUNKED, ""),
    ],
)
def test_responses_without_a_body(method: bytes, status: int, length: int, framing: str) -> None:
    stage = Stage(idle=("a",))
    stage.request(method)
    assert (
        stage.response(b"", length=length, eos=True, status=status)[1] == f"client.finish HTTP/1.1 {status} X|{framing}| keep"
    )


def test_close_is_said_and_done() -> None:
    for draining, keep_alive in ((True, True), (False, False)):
        stage = Stage(idle=("a",))
        stage.draining = draining
        stage.request(keep_alive=keep_alive)
        assert stage.response()[1] == "client.finish HTTP/1.1 200 X|Content-Length: 0|Connection: close|| close"


# Requests with a body.


def test_a_body_that_came_with_its_head() -> None:
    stage = Stage(idle=("a",))
    assert stage.request(b"POST", b"body", length=4) == [f"a.begin {POST}Content-Length: 4||body timeout 3"]


def test_a_body_that_comes_later() -> None:
    stage = Stage(idle=("a",))
    assert stage.request(b"POST", b"bo", length=4) == [f"a.begin {POST}Content-Length: 4||bo"]
    stage.exchange.request_body(b"dy", True)
    assert stage.take() == ["a.send dy", "a.await timeout 3"]


def test_a_chunked_body_whose_end_comes_alone() -> None:
    stage = Stage(idle=("a",))
    assert stage.request(b"POST", b"", length=CHUNKED, eos=False) == [f"a.begin {POST}Transfer-Encoding: chunked||"]
    stage.exchange.request_body(b"body", False)
    stage.exchange.request_body(b"", True)
    assert stage.take() == ["a.send 4|body|", "a.send 0||", "a.await timeout 3"]


def test_a_body_waits_for_its_connection() -> None:
    stage = Stage()
    assert stage.request(b"POST", b"a", length=3) == ["connect a"]
    stage.exchange.request_body(b"b", False)
    stage.exchange.request_body(b"c", True)
    assert stage.connected() == [f"a.begin {POST}Content-Length: 3||abc timeout 3"]


def test_a_client_is_not_read_faster_than_a_connection_comes() -> None:
    stage = Stage()
    stage.request(b"POST", b"", length=1 << 30)
    stage.exchange.request_body(bytes(HIGH_WATER_BYTES + 1), False)
    assert stage.take() == ["client.pause"]
    assert stage.connected()[-1] == "client.resume"


def test_a_client_is_not_read_faster_than_the_upstream_reads() -> None:
    stage = Stage(idle=("a",))
    stage.request(b"POST", b"", length=1 << 30)
    stage.exchange.upstream_blocked()
    stage.exchange.upstream_writable()
    assert stage.take() == ["client.pause", "client.resume"]
    stage.exchange.request_body(b"x", True)
    stage.take()
    stage.exchange.upstream_blocked()
    assert stage.take() == []


def test_the_upstream_is_not_read_faster_than_the_client_reads() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    stage.response(length=1 << 30)
    stage.exchange.client_blocked()
    stage.exchange.client_blocked()
    stage.exchange.client_writable()
    assert stage.take() == ["a.pause", "a.resume"]


def test_the_client_is_told_to_continue() -> None:
    stage = Stage(idle=("a",))
    assert stage.request(b"POST", length=5, expects=True)[1:] == ["client.send HTTP/1.1 100 Continue||"]
    assert len(Stage(idle=("a",)).request(b"POST", b"b", length=5, expects=True)) == 1
    assert "100" not in Stage(matches=False).request(b"POST", length=5, expects=True)[0]


def test_an_answer_to_half_a_request() -> None:
    stage = Stage(idle=("a",))
    stage.request(b"POST", b"half", length=8)
    said = stage.response(b"no", length=2, status=413)
    # The upstream's connection lacks the rest of the request.
    assert said == ["a.close", "client.finish HTTP/1.1 413 X|Content-Length: 2|Connection: close||no close"]
    stage.exchange.request_body(b"rest", True)
    assert stage.take() == []


def test_an_answer_that_begins_before_the_request_has_ended() -> None:
    stage = Stage(idle=("a",))
    stage.request(b"POST", b"half", length=8)
    assert stage.response(b"1", length=2) == ["client.send HTTP/1.1 200 X|Content-Length: 2|Connection: close||1"]
    stage.exchange.request_body(b"rest", True)
    stage.exchange.upstream_body(b"2", True)
    assert stage.take() == ["a.send rest", "a.await timeout 3", "a.release", "client.finish 2 close"]


# What goes wrong.


def error(status: int, reason: str, message: str, *, close: bool = False) -> str:
    body = f'{{"error_msg":"{message}"}}\n'
    connection = "Connection: close|" if close else ""
    upstreams = f"X-APISIX-Upstream-Status: {status}|" if status in (502, 504) and message != "upstream not found" else ""
    head = (
        f"HTTP/1.1 {status} {reason}|{upstreams}Content-Type: application/json|Server: waspgate|"
        f"Content-Length: {len(body)}|{connection}|"
    )
    return f"client.finish {head}{body} {'close' if close else 'keep'}"


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Stage(matches=False), error(404, "Not Found", "404 Route Not Found")),
        (Stage(problem="service_missing"), error(404, "Not Found", "service not found")),
        (Stage(problem="plugin_missing"), error(503, "Service Unavailable", "plugin not available")),
        (Stage(problem="upstream_not_found"), error(502, "Bad Gateway", "upstream not found")),
        (Stage(problem="unheard of"), error(500, "Internal Server Error", "internal error")),
    ],
)
def test_nowhere_to_go(stage: Stage, said: str) -> None:
    assert stage.request() == [said]
    assert stage.exchange.state == DONE


def test_a_node_that_refuses_is_followed_by_the_others_then_by_502() -> None:
    stage = Stage("a", "b", "c")
    assert stage.request(b"POST", b"x", length=1) == ["connect a"]
    stage.exchange.upstream_failed("upstream_connect_failed")
    stage.exchange.upstream_failed("upstream_connect_failed")
    assert stage.take() == ["connect b", "connect c"]
    stage.exchange.upstream_failed("upstream_connect_failed")
    assert stage.take() == [error(502, "Bad Gateway", "cannot connect to upstream")]
    assert (stage.counters.upstream_errors, stage.counters.upstream_retries) == (3, 2)


def test_a_connect_timeout_leads_to_the_next_node_and_at_last_to_504() -> None:
    stage = Stage("a", "b")
    stage.request()
    stage.exchange.upstream_failed("upstream_connect_timeout")
    assert stage.take() == ["connect b"]
    stage.exchange.upstream_failed("upstream_connect_timeout")
    assert stage.take() == [error(504, "Gateway Timeout", "upstream connect timed out")]


def test_a_pooled_connection_that_had_ended_is_replaced_once() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    stage.exchange.upstream_lost("upstream_closed")
    assert stage.take() == ["connect a"]
    assert stage.connected("new") == [f"new.begin {GET} timeout 3"]
    stage.exchange.upstream_lost("upstream_closed")
    assert stage.take() == [error(502, "Bad Gateway", "upstream closed the connection")]


def test_a_head_whose_body_has_not_come_may_go_out_again() -> None:
    stage = Stage(idle=("a",))
    stage.request(b"PUT", b"", length=4)
    stage.exchange.upstream_lost("upstream_closed")
    assert stage.take() == ["connect a"]
    stage.exchange.request_body(b"body", True)
    assert stage.connected("new") == ["new.begin PUT /p HTTP/1.1|Host: t|Content-Length: 4||body timeout 3"]


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [(b"POST", b"", "upstream_closed"), (b"PUT", b"x", "upstream_closed"), (b"GET", b"", "upstream_read_timeout")],
)
def test_what_is_not_repeated(method: bytes, body: bytes, kind: str) -> None:
    stage = Stage(idle=("a",))
    stage.request(method, body, length=len(body))
    stage.exchange.upstream_lost(kind)
    assert stage.take()[0].startswith("client.finish HTTP/1.1 50")


def test_a_lost_body_cuts_the_client_off() -> None:
    for length, minor, said in ((9, 1, "client.cut"), (CHUNKED, 1, "client.cut"), (UNTIL_CLOSE, 0, "client.cut hard")):
        stage = Stage(idle=("a",))
        stage.request(minor=minor)
        stage.response(b"some", length=length)
        stage.exchange.upstream_lost("upstream_closed")
        assert stage.take() == [said]
        assert stage.exchange.state == DONE


def test_a_client_that_leaves() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    stage.exchange.client_gone()
    stage.exchange.client_gone()
    assert stage.take() == ["a.close"]
    stage = Stage()
    stage.request()
    stage.exchange.client_gone()
    assert stage.connected() == ["a.release"]
    assert stage.counters.client_aborts == 1


def test_a_client_that_fails() -> None:
    stage = Stage(idle=("a",))
    stage.request(b"POST", b"half", length=8)
    stage.exchange.client_failed("bad_framing")
    assert stage.take() == ["a.close", error(400, "Bad Request", "invalid message framing", close=True)]
    stage = Stage(idle=("a",))
    stage.request(b"POST", b"half", length=8)
    stage.response(b"x", length=2)
    stage.exchange.client_failed("bad_framing")
    assert stage.take() == ["a.close", "client.cut"]


def test_it_says_what_it_is() -> None:
    stage = Stage(idle=("a",))
    stage.request()
    assert repr(stage.exchange) == "<Exchange WAITING <RequestHead b'GET' b'/p' host=b't' length=0> route=1>"
    assert STATES[stage.exchange.state] == "WAITING"
