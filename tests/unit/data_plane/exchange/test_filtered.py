"""The transcripts of requests with plugins: what the chain is told, and what follows from what it forwards."""

from __future__ import annotations

import pytest

from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE
from data_plane.exchange.sending import DONE, HIGH_WATER_BYTES
from data_plane.plugins.interface import LocalReply
from tests.support.exchange import Stage

GET = "GET /p HTTP/1.1|Host: t||"
POST = "POST /p HTTP/1.1|Host: t|"
DENIED = LocalReply(403, b"no", ((b"x-why", b"because"), (b"Content-Length", b"99"), (b"connection", b"x")))
DENIED_SENT = "HTTP/1.1 403 Forbidden|x-why: because|Content-Length: 2||no"


def plugged(**options: object) -> Stage:
    return Stage(idle=("a",), plugins=True, **options)  # type: ignore[arg-type]


def test_a_request_through_a_chain_that_lets_everything_pass() -> None:
    stage = plugged()
    assert stage.request() == ["chain: request head eos", f"a.begin {GET} timeout 3"]
    assert stage.response(b"hi", length=2) == [
        "a.release",
        "chain: response head 200",
        "chain: response body hi eos",
        "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep",
        "chain.finish",
    ]


def test_bodies_through_a_chain() -> None:
    stage = plugged()
    stage.request(b"POST", b"ab", length=4)
    stage.exchange.request_body(b"cd", True)
    assert stage.take() == ["chain: request body cd eos", "a.send cd", "a.await timeout 3"]
    assert stage.response(b"12", length=4)[-1] == "client.send HTTP/1.1 200 X|Content-Length: 4||12"
    stage.exchange.upstream_body(b"34", True)
    assert stage.take() == ["a.release", "chain: response body 34 eos", "client.finish 34 keep", "chain.finish"]


def test_a_body_that_plugins_read_is_measured_anew() -> None:
    stage = plugged(reads_request_body=True, reads_response_body=True)
    assert stage.request(b"POST", b"body", length=4) == [
        "chain: request head",
        "a.begin",
        "chain: request body body eos",
        f"a.send {POST}Content-Length: 4||body",
        "a.await timeout 3",
    ]
    assert "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep" in stage.response(b"hi", length=CHUNKED, eos=True)


def test_a_body_that_plugins_read_piece_by_piece_is_chunked() -> None:
    stage = plugged(reads_request_body=True, reads_response_body=True)
    stage.request(b"POST", b"ab", length=4)
    stage.exchange.request_body(b"cd", True)
    assert "a.send 2|cd|0||" in stage.take()
    assert stage.response(b"", length=4) == ["chain: response head 200"]
    stage.exchange.upstream_body(b"12", False)
    stage.exchange.upstream_body(b"34", True)
    assert stage.take() == [
        "chain: response body 12",
        "client.send HTTP/1.1 200 X|Transfer-Encoding: chunked||2|12|",
        "a.release",
        "chain: response body 34 eos",
        "client.finish 2|34|0|| keep",
        "chain.finish",
    ]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_no_body_stays_no_body(method: bytes, status: int) -> None:
    stage = plugged(reads_response_body=True)
    stage.request(method)
    said = stage.response(b"", length=UNTIL_CLOSE, eos=True, status=status)
    assert f"client.finish HTTP/1.1 {status} X|| keep" in said


def test_an_empty_body_that_plugins_read() -> None:
    stage = plugged(reads_response_body=True)
    stage.request()
    assert "client.finish HTTP/1.1 200 X|Content-Length: 0|| keep" in stage.response(b"", length=0)


def test_a_reply_of_a_plugin_to_the_request() -> None:
    stage = plugged(replies={"request head": DENIED})
    assert stage.request() == [
        "chain: request head eos",
        "chain: response head 403",
        "chain: response body no eos",
        f"client.finish {DENIED_SENT} keep",
        "chain.finish",
    ]
    assert stage.exchange.state == DONE


def test_a_reply_of_a_plugin_to_the_body() -> None:
    stage = plugged(replies={"request body": DENIED})
    stage.request(b"POST", b"", length=4)
    stage.exchange.request_body(b"ab", False)
    said = stage.take()
    assert said[1] == "a.close"
    assert said[-2:] == [f"client.finish {DENIED_SENT.replace('2||', '2|Connection: close||')} close", "chain.finish"]
    stage.exchange.request_body(b"cd", True)
    assert stage.take() == []


@pytest.mark.parametrize("when", ["response head", "response body"])
def test_a_reply_of_a_plugin_in_place_of_the_response(when: str) -> None:
    stage = plugged(replies={when: DENIED}, reads_response_body=True)
    stage.request()
    said = stage.response(b"secret", length=9)
    assert "a.close" in said
    assert said[-2:] == [f"client.finish {DENIED_SENT} keep", "chain.finish"]
    assert not any("secret" in line for line in said if line.startswith("client"))


def test_a_reply_without_body() -> None:
    stage = plugged(replies={"request head": LocalReply(401)})
    assert stage.request()[1:] == [
        "chain: response head 401 eos",
        "client.finish HTTP/1.1 401 Unauthorized|Content-Length: 0|| keep",
        "chain.finish",
    ]


def test_a_reply_to_head_has_no_body() -> None:
    stage = plugged(replies={"request head": DENIED})
    assert f"client.finish {DENIED_SENT[:-2]} keep" in stage.request(b"HEAD")


def test_a_paused_request() -> None:
    stage = plugged(holds=("request",))
    assert stage.request(b"POST", b"", length=2) == ["chain: request head"]
    stage.exchange.request_body(b"ab", True)
    assert stage.take() == ["chain: request body ab eos"]
    stage.chain.sink.forward_request_head(b"POST /other HTTP/1.1\r\nHost: t\r\n")
    stage.chain.sink.forward_request_body(b"ab", True)
    assert stage.take() == ["a.begin POST /other HTTP/1.1|Host: t|Content-Length: 2||", "a.send ab", "a.await timeout 3"]


def test_a_paused_response() -> None:
    stage = plugged(holds=("response",))
    stage.request()
    assert stage.response(b"hi", length=2) == ["a.release", "chain: response head 200", "chain: response body hi eos"]
    stage.chain.sink.forward_response_head(b"HTTP/1.1 201 Y\r\n")
    stage.chain.sink.forward_response_body(b"hi", True)
    assert stage.take() == ["client.send HTTP/1.1 201 Y|Content-Length: 2||", "client.finish hi keep", "chain.finish"]
    assert stage.counters.statistics()["responses_2xx"] == 1


def test_a_paused_chain_stops_both_sides() -> None:
    stage = plugged(holds=("request",))
    stage.request(b"POST", b"", length=1 << 30)
    stage.chain.request_backlog = HIGH_WATER_BYTES + 1
    stage.exchange.request_body(b"x", False)
    assert stage.take()[-1] == "client.pause"
    stage.chain.request_backlog = 0
    stage.chain.sink.forward_request_head(b"POST / HTTP/1.1\r\nHost: t\r\n")
    assert stage.take()[-1] == "client.resume"
    stage = plugged(holds=("response",))
    stage.request()
    stage.response(b"x", length=1 << 30)
    stage.chain.response_backlog = HIGH_WATER_BYTES + 1
    stage.exchange.upstream_body(b"x", False)
    assert stage.take()[-1] == "a.pause"
    stage.chain.response_backlog = 0
    stage.chain.sink.forward_response_head(b"HTTP/1.1 200 X\r\n")
    assert "a.resume" in stage.take(), "with the head, whatever becomes of the body behind it"


def test_the_gateways_own_replies_go_through_the_chain() -> None:
    stage = plugged()
    stage.request()
    stage.exchange.upstream_lost("upstream_read_timeout")
    said = stage.take()
    assert said[0] == "chain: response head 504"
    assert said[-1] == "chain.finish"


def test_no_route_but_global_plugins() -> None:
    stage = Stage(matches=False, global_plugins=True)
    said = stage.request()
    assert said[:2] == ["chain: request head eos", "chain: response head 404"]
    assert said[-1] == "chain.finish"
    stage = Stage(matches=False, global_plugins=True, replies={"request head": DENIED})
    assert f"client.finish {DENIED_SENT} keep" in stage.request()


def test_plugins_may_answer_for_a_route_without_upstream() -> None:
    stage = Stage(plugins=True, problem="upstream_missing", replies={"request head": DENIED})
    assert f"client.finish {DENIED_SENT} keep" in stage.request()
    assert "chain: response head 503" in Stage(plugins=True, problem="upstream_missing").request()


def test_a_response_that_is_lost_while_the_chain_holds_it() -> None:
    stage = plugged(holds=("response",))
    stage.request()
    stage.response(b"x", length=9)
    stage.exchange.upstream_lost("upstream_closed")
    said = stage.take()
    assert said[0].startswith("client.finish HTTP/1.1 502")
    assert said[1:] == ["chain.finish"]
    stage.chain.sink.forward_response_head(b"HTTP/1.1 200 X\r\n")
    stage.chain.sink.forward_response_body(b"x", True)
    assert stage.take() == []


def test_a_response_that_is_lost_on_its_way() -> None:
    stage = plugged()
    stage.request()
    stage.response(b"x", length=9)
    stage.exchange.upstream_lost("upstream_closed")
    assert stage.take() == ["chain.finish", "client.cut"]


def test_a_client_that_leaves_finishes_the_chain_once() -> None:
    for holds in ((), ("request",), ("response",)):
        stage = plugged(holds=holds)
        stage.request()
        if holds == ("response",):
            stage.response(b"x", length=9)
        stage.exchange.client_gone()
        stage.exchange.client_gone()
        assert stage.take().count("chain.finish") == 1
        stage.chain.sink.forward_request_head(b"GET / HTTP/1.1\r\n")
        stage.chain.sink.forward_response_head(b"HTTP/1.1 200 X\r\n")
        stage.chain.sink.local_reply(DENIED)
        stage.chain.sink.abort("late")
        assert stage.take() == []


def test_an_abort_cuts_the_client_off() -> None:
    stage = plugged()
    stage.request()
    stage.chain.sink.abort("reset by a plugin")
    assert stage.take() == ["a.close", "chain.finish", "client.cut"]


def test_what_plugins_may_ask() -> None:
    stage = plugged()
    stage.request(b"POST", b"abc", length=4)
    info = stage.chain.info
    assert info.client_address == ("10.0.0.1", 1234)
    assert info.local_address == ("10.0.0.2", 80)
    assert (info.connection_id, info.protocol, info.start_time_ns, info.route_name) == (7, "HTTP/1.1", 1_000, "one")
    assert info.upstream_address == ("a", 80)
    stage.exchange.request_body(b"d", True)
    stage.response(b"12345", length=6)
    assert (info.request_bytes, info.response_bytes) == (4, 5)


def test_what_plugins_hold_is_seen_by_who_looks() -> None:
    stage = plugged(holds=("request",))
    stage.request(b"POST", b"ab", length=4)
    before = stage.exchange.held()
    assert before is not None
    assert stage.exchange.held() == before
    stage.exchange.request_body(b"c", False)
    assert stage.exchange.held() not in (before, None), "there is progress"
    passing = plugged()
    passing.request()
    assert passing.exchange.held() is None


def test_a_request_that_plugins_hold_too_long_is_answered() -> None:
    stage = plugged(holds=("request",))
    stage.request()
    stage.exchange.held_too_long()
    said = stage.take()
    assert said[0] == "chain: response head 504"
    assert said[-2].startswith("client.finish HTTP/1.1 504 Gateway Timeout|")
    assert said[-2].endswith(" keep")
    assert said[-1] == "chain.finish"


def test_a_response_that_plugins_hold_too_long_is_replaced() -> None:
    stage = plugged(holds=("response",))
    stage.request()
    assert stage.response(b"hi", length=2)[-1] == "chain: response body hi eos"
    assert stage.exchange.held() is not None
    stage.exchange.held_too_long()
    assert stage.take()[0].startswith("client.finish HTTP/1.1 504 Gateway Timeout|")
    assert stage.exchange.state == DONE
