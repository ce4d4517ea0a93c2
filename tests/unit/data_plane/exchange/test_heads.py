"""The transcripts of requests whose one plugin looks at heads: without a chain as long as it lets them go on."""

from __future__ import annotations

from data_plane.exchange.messages import CHUNKED
from data_plane.exchange.sending import DONE, HIGH_WATER_BYTES
from data_plane.plugins.interface import LocalReply
from tests.support.exchange import Stage

GET = "GET /p HTTP/1.1|Host: t||"
REWRITTEN_REQUEST = b"GET /q HTTP/1.1\r\nhost: t\r\n"
REWRITTEN_RESPONSE = b"HTTP/1.1 201 Made\r\nx: y\r\n"


def stage(*answers: bytes | None, **options: object) -> Stage:
    return Stage(idle=("a",), plugins=True, answers=list(answers), **options)  # type: ignore[arg-type]


def test_a_plugin_that_lets_everything_pass_needs_no_chain() -> None:
    scene = stage()
    assert scene.request() == ["stream: request head eos", f"a.begin {GET} timeout 3"]
    assert scene.response(b"hi", length=2) == [
        "a.release",
        "stream: last response 200",
        "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep",
    ]
    assert scene.exchange.state == DONE


def test_rewritten_heads_go_on_as_the_plugin_left_them() -> None:
    scene = stage(REWRITTEN_REQUEST, REWRITTEN_RESPONSE)
    assert scene.request()[-1] == "a.begin GET /q HTTP/1.1|host: t|| timeout 3"
    assert "client.finish HTTP/1.1 201 Made|x: y|Content-Length: 2||hi keep" in scene.response(b"hi", length=2)
    assert scene.counters.responses[201] == 1


def test_a_streamed_response_passes_piece_by_piece() -> None:
    scene = stage()
    scene.request()
    assert scene.response(b"ab", length=CHUNKED)[-1].endswith("2|ab|")
    scene.exchange.upstream_body(b"cd", True)
    assert scene.take() == ["a.release", "client.finish 2|cd|0|| keep", "stream.finish"]


def test_a_request_with_a_body_has_a_chain() -> None:
    scene = stage()
    assert scene.request(b"POST", b"body", length=4)[0] == "chain: request head"


def test_another_answer_to_the_request_lets_a_chain_take_over() -> None:
    scene = stage(None, replies={"request head": LocalReply(403, b"no")})
    assert scene.request() == [
        "stream: request head eos",
        "take over",
        "chain: request head eos",
        "chain: response head 403",
        "chain: response body no eos",
        "client.finish HTTP/1.1 403 Forbidden|Content-Length: 2||no keep",
        "chain.finish",
    ]


def test_another_answer_to_the_response_lets_a_chain_take_over() -> None:
    scene = stage(b"", None)
    scene.request()
    assert scene.response(b"hi", length=2) == [
        "a.release",
        "stream: last response 200",
        "take over",
        "chain: response head 200",
        "chain: response body hi eos",
        "client.finish HTTP/1.1 200 X|Content-Length: 2||hi keep",
        "chain.finish",
    ]


def test_a_reply_of_the_gateway_goes_through_a_chain() -> None:
    scene = stage()
    scene.request()
    scene.exchange.upstream_lost("upstream_read_timeout")
    said = scene.take()
    assert said[:2] == ["take over", "chain: response head 504"]
    assert said[-1] == "chain.finish"


def test_a_client_that_leaves_ends_the_stream_once() -> None:
    scene = stage()
    scene.request()
    scene.exchange.client_gone()
    assert scene.take() == ["a.close", "stream.finish"]
    scene.exchange.client_gone()
    scene.exchange.client_blocked()
    assert scene.take() == []


def test_a_slow_client_stops_the_upstream() -> None:
    scene = stage()
    scene.request()
    scene.response(b"x" * HIGH_WATER_BYTES, length=10 * HIGH_WATER_BYTES, eos=False)
    scene.exchange.client_blocked()
    assert "a.pause" in scene.take()[-1]
    scene.exchange.client_writable()
    assert "a.resume" in scene.take()[-1]


def test_a_status_without_a_body_that_a_plugin_made_has_none() -> None:
    scene = stage(b"", b"HTTP/1.1 204 No Content\r\n")
    scene.request()
    assert scene.response(b"hi", length=2)[-1] == "client.finish HTTP/1.1 204 No Content|| keep"


def test_a_whole_response_closes_a_connection_that_is_not_to_be_kept() -> None:
    scene = stage()
    scene.request(keep_alive=False)
    assert scene.response(b"hi", length=2)[-1] == "client.finish HTTP/1.1 200 X|Content-Length: 2|Connection: close||hi close"
    scene = stage()
    scene.request(minor=0, keep_alive=True)
    said = scene.response(b"hi", length=2)[-1]
    assert said == "client.finish HTTP/1.1 200 X|Content-Length: 2|Connection: keep-alive||hi keep"
