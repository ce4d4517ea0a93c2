"""A client's connection over HTTP/2 as transcripts: requests, bodies, trailers, resets, windows and the end."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import RstStreamFrame, WindowUpdateFrame

from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, ResponseHead
from data_plane.h2.limits import GOAWAY_SECONDS, STREAM_IDLE_SECONDS
from data_plane.http.limits import BODY_IDLE_SECONDS, BODY_LOOKS, HEAD_SECONDS, HELD_SECONDS, KEEPALIVE_SECONDS, SEND_SECONDS
from tests.support.h2_client import GRPC, Fields, H2Wire, request

FORWARDED = "X-Forwarded-For: 10.0.0.1|X-Real-IP: 10.0.0.1|X-Forwarded-Proto: http|X-Forwarded-Port: 80|X-Forwarded-Host: t|"
SWEEPS = (15, 60)


@pytest.fixture
def wire() -> H2Wire:
    return H2Wire("a")


def asked(wire: H2Wire, stream: int) -> list[str]:
    """The request has gone to the upstream."""
    wire.take()
    return wire.connected(stream)


def test_a_request_and_its_answer(wire: H2Wire) -> None:
    stream = wire.send(request(b"GET", b"/p?q", (b"accept", b"*/*"), (b"te", b"trailers")))
    assert wire.take() == ["connect a"]
    assert wire.connected(stream) == [f"a.begin GET /p?q HTTP/1.1|Host: t|accept: */*|{FORWARDED}| timeout 3"]
    assert wire.answer(stream, b"hello", length=5) == ["a.release", "1: 200 content-length=5 x-a=b", "1: 'hello'."]
    assert (wire.connection.busy, wire.stage.counters.responses[200], wire.goaway) == (0, 1, None)


def test_plugins_are_told_what_the_client_speaks() -> None:
    wire = H2Wire("a", plugins=True)
    wire.send(request())
    assert wire.stage.chain.info.protocol == "HTTP/2"
    assert wire.stage.chain.info.client_address == ("10.0.0.1", 1234)


def test_many_requests_at_once_each_with_its_answer(wire: H2Wire) -> None:
    streams = [wire.send(request()) for _ in range(100)]
    for stream in streams:
        wire.connected(stream)
    wire.take()
    for stream in reversed(streams):
        assert wire.answer(stream, b"%d" % stream, length=len(str(stream)))[-1] == f"{stream}: '{stream}'."


def test_cookies_are_one_field_for_the_upstream(wire: H2Wire) -> None:
    stream = wire.send(request(b"GET", b"/", (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")))
    assert "|x: y|cookie: a=1; b=2|" in asked(wire, stream)[0]


@pytest.mark.parametrize(("method", "status", "length"), [(b"HEAD", 200, 5), (b"GET", 204, UNTIL_CLOSE), (b"GET", 304, 9)])
def test_an_answer_without_a_body_ends_with_its_head(wire: H2Wire, method: bytes, status: int, length: int) -> None:
    stream = wire.send(request(method))
    asked(wire, stream)
    said = f" content-length={length}" if length > 0 else ""
    assert wire.answer(stream, length=length, status=status)[1:] == [f"1: {status}{said} x-a=b."]


def test_a_body_of_known_length_goes_on_as_it_comes(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST", b"/", (b"content-length", b"6")), b"abc", eos=False)
    assert asked(wire, stream)[0].endswith("|Content-Length: 6||abc")
    wire.client.send_data(stream, b"def", end_stream=True)
    wire.flush()
    assert wire.take() == ["a.send def", "a.await timeout 3"]


def test_a_body_of_unknown_length_goes_on_in_chunks(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST"), b"abc", eos=False)
    assert asked(wire, stream)[0].endswith("|Transfer-Encoding: chunked||3|abc|")
    wire.client.end_stream(stream)
    wire.flush()
    assert wire.take() == ["a.send 0||", "a.await timeout 3"]


@pytest.mark.parametrize("body", [b"abcd", b"ab"], ids=["longer", "shorter"])
def test_a_body_that_is_not_as_long_as_it_says_costs_its_request_only(wire: H2Wire, body: bytes) -> None:
    other = wire.send(request())
    stream = wire.send(request(b"POST", b"/", (b"content-length", b"3")), body)
    assert f"{stream}: reset PROTOCOL_ERROR" in wire.take()
    assert wire.connected(other)
    assert wire.goaway is None


@pytest.mark.parametrize("fields", [[(b"content-length", b"6")], []], ids=["declared", "not declared"])
def test_a_body_that_is_too_large(wire: H2Wire, fields: Fields, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_plane.http.limits.BODY_BYTES", 5)
    wire.send(request(b"POST", b"/", *fields), b"x" * 6)
    assert any(line.startswith("1: 413 ") for line in wire.take())


def test_a_length_without_a_body(wire: H2Wire) -> None:
    wire.send(request(b"POST", b"/", (b"content-length", b"3")))
    assert wire.take() == ["1: reset PROTOCOL_ERROR"]


def test_malformed_trailers(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST"), b"abc", eos=False)
    asked(wire, stream)
    wire.client.send_headers(stream, [(b"x", b"y\r\nz: 1")], end_stream=True)
    wire.flush()
    assert wire.take() == ["a.close", "1: reset PROTOCOL_ERROR"]


def test_trailers_go_on_both_ways(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST"), b"abc", eos=False)
    asked(wire, stream)
    wire.client.send_headers(stream, [(b"x-sum", b"1"), (b"content-length", b"9")], end_stream=True)
    wire.flush()
    assert wire.take() == ["a.send 0|x-sum: 1||", "a.await timeout 3"]
    wire.answer(stream, b"x", length=CHUNKED, eos=False)
    wire.exchange(stream).upstream_trailers(b"Grpc-Status: 0\r\nTrailer: no\r\n")
    wire.exchange(stream).upstream_body(b"", True)
    assert wire.take() == ["a.release", "1: trailers grpc-status=0."]


def test_trailers_go_through_plugins() -> None:
    wire = H2Wire("a", plugins=True)
    stream = wire.send(request(b"POST"), b"abc", eos=False)
    asked(wire, stream)
    wire.client.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)
    wire.flush()
    assert wire.take() == ["chain: request trailers x-sum: 1|", "a.send 0|x-sum: 1||", "a.await timeout 3"]
    wire.answer(stream, b"x", length=CHUNKED, eos=False)
    wire.exchange(stream).upstream_trailers(b"Grpc-Status: 0\r\n")
    wire.exchange(stream).upstream_body(b"", True)
    assert wire.take() == [
        *("a.release", "chain: response trailers Grpc-Status: 0|", "chain.finish"),
        "1: trailers grpc-status=0.",
    ]


def test_trailers_of_an_exchange_without_a_chain() -> None:
    wire = H2Wire("a", plugins=True, answers=[])
    stream = wire.send(request())
    asked(wire, stream)
    wire.answer(stream, b"x", length=CHUNKED, eos=False)
    wire.exchange(stream).upstream_trailers(b"X-Sum: 1\r\n")
    wire.exchange(stream).upstream_body(b"", True)
    assert wire.take() == ["a.release", "stream.finish", "1: trailers x-sum=1."]


def test_interim_answers(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST", b"/", (b"content-length", b"3"), (b"expect", b"100-continue")), eos=False)
    assert wire.take() == ["connect a", "1: 100"]
    wire.connected(stream)
    hints = ResponseHead(103, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n", 0, b"", True)
    wire.exchange(stream).upstream_interim(hints)
    assert wire.take() == ["1: 103 link=x"]


def test_a_client_that_resets_its_stream_gives_up_the_upstream(wire: H2Wire) -> None:
    stream = wire.send(request())
    asked(wire, stream)
    wire.client.reset_stream(stream, ErrorCodes.CANCEL)
    wire.flush()
    assert wire.take() == ["a.close"]
    assert (wire.connection.busy, wire.stage.counters.client_aborts) == (0, 1)


def test_a_client_that_leaves_gives_up_all(wire: H2Wire) -> None:
    for stream in (wire.send(request()), wire.send(request())):
        wire.connected(stream)
    wire.take()
    wire.connection.connection_lost(None)
    assert wire.take() == ["a.close", "a.close"]
    assert not wire.stage.clients


def test_an_answer_that_breaks_off_is_reset(wire: H2Wire) -> None:
    stream = wire.send(request())
    asked(wire, stream)
    wire.answer(stream, b"abc", length=10, eos=False)
    wire.exchange(stream).upstream_lost("upstream_closed")
    assert wire.take() == ["1: reset INTERNAL_ERROR"]


def test_an_answer_before_the_end_of_the_request_asks_for_no_more_of_it(wire: H2Wire) -> None:
    stream = wire.send(request(b"POST"), b"abc", eos=False)
    asked(wire, stream)
    assert wire.answer(stream, b"no", length=2, status=403)[1:] == [
        *("1: 403 content-length=2 x-a=b", "1: 'no'.", "1: reset NO_ERROR"),
    ]


class TestWindows:
    def test_no_more_is_sent_than_the_clients_window_takes_and_no_more_is_read(self) -> None:
        wire = H2Wire("a", window=1000)
        stream = wire.send(request())
        asked(wire, stream)
        assert wire.answer(stream, b"x" * 70_000, length=CHUNKED, eos=False) == ["a.pause", "1: 200 x-a=b", "1: (1000)"]
        wire.client.increment_flow_control_window(60_000, stream)
        wire.flush()
        assert wire.take() == [*["1: (16384)"] * 3, "1: (10848)", "a.resume"]

    def test_a_new_window_for_all_streams(self) -> None:
        wire = H2Wire("a", window=10)
        stream = wire.send(request())
        asked(wire, stream)
        wire.answer(stream, b"x" * 300, length=300)
        wire.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 500})
        wire.flush()
        assert wire.take() == ["1: (290)."]

    def test_streams_take_turns(self) -> None:
        wire = H2Wire("a")
        wire.client.increment_flow_control_window(1 << 20)
        wire.flush()
        large, small = wire.send(request()), wire.send(request())
        wire.connected(large)
        wire.connected(small)
        wire.take()
        wire.connection.pause_writing()
        wire.answer(large, b"x" * 60_000, length=60_000)
        wire.answer(small, b"y", length=1)
        wire.connection.resume_writing()
        told = [line for line in wire.take() if "200" not in line and "release" not in line]
        assert told == ["1: (16384)", "3: 'y'.", "1: (16384)", "1: (16384)", "1: (10848)."]

    def test_nothing_is_given_to_a_transport_that_is_full(self, wire: H2Wire) -> None:
        stream = wire.send(request())
        asked(wire, stream)
        wire.connection.pause_writing()
        wire.answer(stream, b"hello", length=5)
        assert b"hello" not in wire.sent
        wire.connection.resume_writing()
        assert wire.take()[-1] == "1: 'hello'."

    def test_a_slow_upstream_keeps_the_streams_window_shut_and_nobody_elses(self, wire: H2Wire) -> None:
        slow = wire.send(request(b"POST"), eos=False)
        asked(wire, slow)
        wire.exchange(slow).upstream_blocked()
        for _ in range(3):
            wire.client.send_data(slow, b"x" * 16_000)
            wire.flush()
        assert wire.client.local_flow_control_window(slow) == 65_535 - 48_000
        wire.take()
        wire.exchange(slow).upstream_writable()
        wire.take()
        assert wire.client.local_flow_control_window(slow) == 65_535
        # The connection's is that of all streams.
        assert wire.client.outbound_flow_control_window == (1 << 20) - 48_000

    def test_a_large_upload_never_runs_out_of_window(self, wire: H2Wire) -> None:
        stream = wire.send(request(b"POST"), eos=False)
        asked(wire, stream)
        for _ in range(200):
            assert wire.client.local_flow_control_window(stream) >= 16_384
            wire.client.send_data(stream, b"x" * 16_384)
            wire.flush()
            wire.take()


class TestEnds:
    def test_draining_lets_in_what_is_on_its_way_and_ends_it(self, wire: H2Wire) -> None:
        first = wire.send(request())
        asked(wire, first)
        wire.stage.draining = True
        wire.connection.drain()
        assert wire.take() == ["goaway NO_ERROR all", "ping"]
        pong = wire.client.data_to_send()
        late = wire.send(request())
        asked(wire, late)
        wire.receive(pong)
        assert wire.take() == ["goaway NO_ERROR 3"]
        too_late = wire.send(request())
        assert wire.take() == [f"{too_late}: reset REFUSED_STREAM"]
        assert wire.answer(first)[-1] == "1: 200 content-length=0 x-a=b."
        assert (wire.connection.busy, wire.half_closed, wire.connection.stays) == (1, False, True)
        wire.answer(late)
        assert (wire.connection.busy, wire.half_closed, wire.connection.stays) == (0, True, False)
        wire.connection.eof_received()

    def test_a_client_that_does_not_answer_the_ping(self, wire: H2Wire) -> None:
        wire.connection.drain()
        wire.take()
        assert wire.pass_time(GOAWAY_SECONDS) == ["goaway NO_ERROR 0"]
        assert wire.half_closed

    def test_the_last_request_of_a_connection(self, wire: H2Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("data_plane.http.limits.CONNECTION_REQUESTS", 2)
        wire.send(request())
        assert wire.take() == ["connect a"]
        wire.send(request())
        assert wire.take() == ["connect a", "goaway NO_ERROR all", "ping"]

    def test_an_idle_connection(self, wire: H2Wire) -> None:
        stream = wire.send(request())
        asked(wire, stream)
        assert wire.pass_time(KEEPALIVE_SECONDS * 3) == []
        wire.answer(stream)
        assert wire.pass_time(KEEPALIVE_SECONDS - 1) == []
        assert wire.pass_time(2) == ["goaway NO_ERROR 1"]
        assert (wire.half_closed, wire.aborted) == (True, False)
        wire.pass_time(KEEPALIVE_SECONDS)
        assert wire.aborted

    @pytest.mark.parametrize("data", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4"])
    def test_a_client_that_does_not_begin(self, data: bytes) -> None:
        wire = H2Wire("a", greets=False)
        wire.receive(data)
        wire.take()
        assert wire.pass_time(HEAD_SECONDS - 1) == []
        assert wire.pass_time(1) == ["goaway ENHANCE_YOUR_CALM 0"]

    @pytest.mark.parametrize("frame", [b"\0\0\x20\1\5\0\0\0\3", b"\0\0\6\4\0\0\0\0\0"], ids=["head", "settings"])
    def test_a_frame_that_drips(self, wire: H2Wire, frame: bytes) -> None:
        for at in range(0, len(frame), 3):
            wire.receive(frame[at : at + 3])
            assert wire.pass_time(HEAD_SECONDS / 4) == []
        # Each frame has its time.
        wire.pass_time(HEAD_SECONDS / 4)
        assert wire.goaway == "ENHANCE_YOUR_CALM"

    def test_a_head_that_does_not_end(self, wire: H2Wire) -> None:
        stream = wire.send(request())
        asked(wire, stream)
        # HEADERS without END_HEADERS, and nothing after it but one empty CONTINUATION now and then.
        wire.receive(b"\0\0\1\1\0\0\0\0\3\x82")
        wire.pass_time(HEAD_SECONDS - 2)
        wire.receive(b"\0\0\0\x09\0\0\0\0\3")
        assert wire.take() == []
        assert wire.pass_time(2) == ["goaway ENHANCE_YOUR_CALM 1", "a.close"]

    def test_a_body_that_does_not_come(self, wire: H2Wire) -> None:
        stream = wire.send(request(b"POST"), b"abc", eos=False)
        asked(wire, stream)
        wire.pass_time(BODY_IDLE_SECONDS)
        wire.connection.sweep(*SWEEPS)
        assert wire.take() == []
        wire.pass_time(1)
        wire.connection.sweep(*SWEEPS)
        assert wire.take()[1].startswith("1: 408 ")

    @pytest.mark.parametrize(("declared", "ends"), [(b"9999", True), (None, False)], ids=["known length", "a stream"])
    def test_a_body_that_drips(self, wire: H2Wire, declared: bytes | None, ends: bool) -> None:
        stream = wire.send(request(b"POST", b"/", *([(b"content-length", declared)] if declared else [])), b"a", eos=False)
        asked(wire, stream)
        told: list[str] = []
        for _ in range(BODY_LOOKS + 1):
            wire.client.send_data(stream, b"x")
            wire.flush()
            wire.pass_time(5)
            wire.connection.sweep(*SWEEPS)
            told += wire.take()
        assert any(line.startswith("1: 408 ") for line in told) is ends

    def test_a_window_that_stays_shut(self) -> None:
        wire = H2Wire("a", window=10)
        stream = wire.send(request())
        asked(wire, stream)
        wire.answer(stream, b"x" * 20, length=30, eos=False)
        wire.pass_time(SEND_SECONDS + 1)
        wire.connection.sweep(*SWEEPS)
        assert wire.take() == ["a.close", "1: reset CANCEL"]

    def test_a_stream_in_both_directions_over_which_nothing_moves(self, wire: H2Wire) -> None:
        stream = wire.send(request(b"POST"), b"abc", eos=False)
        asked(wire, stream)
        wire.answer(stream, b"x", length=CHUNKED, eos=False)
        wire.pass_time(STREAM_IDLE_SECONDS - 1)
        wire.exchange(stream).upstream_body(b"y", False)
        assert wire.pass_time(STREAM_IDLE_SECONDS - 1) == ["1: 'y'"]
        wire.connection.sweep(*SWEEPS)
        assert wire.take() == []
        wire.pass_time(2)
        wire.connection.sweep(*SWEEPS)
        assert wire.take() == ["a.close", "1: reset CANCEL"]

    def test_a_request_that_plugins_hold_too_long(self) -> None:
        wire = H2Wire("a", plugins=True, holds=("request",))
        wire.send(request())
        wire.take()
        for _ in range(SWEEPS[1]):
            wire.connection.sweep(*SWEEPS)
        assert wire.take() == []
        wire.connection.sweep(*SWEEPS)
        assert any(line.startswith("1: 504 ") for line in wire.take())

    def test_a_client_that_does_not_read(self, wire: H2Wire) -> None:
        stream = wire.send(request())
        asked(wire, stream)
        wire.connection.pause_writing()
        wire.pass_time(SEND_SECONDS + 1)
        assert wire.aborted

    def test_too_many_connections(self) -> None:
        wire = H2Wire("a", full=True, greets=False)
        assert wire.take() == ["goaway REFUSED_STREAM 0"]
        assert wire.closed


class TestGrpc:
    """A gRPC client is answered as one (gRPC over HTTP/2, Responses)."""

    @pytest.mark.parametrize(
        ("problem", "status", "message"),
        [
            ("upstream_not_found", 14, "upstream not found"),
            ("no_nodes", 14, "no upstream node available"),
            ("internal", 2, "internal error"),
        ],
    )
    @pytest.mark.parametrize("plugins", [False, True])
    def test_the_gateways_own_replies(self, problem: str, status: int, message: str, plugins: bool) -> None:
        wire = H2Wire(problem=problem, plugins=plugins)
        wire.send(GRPC, b"x")
        told = [line for line in wire.take() if line.startswith("1: 200")]
        assert told == [f"1: 200 content-type=application/grpc grpc-message={message} grpc-status={status} server=waspgate."]

    def test_no_route(self) -> None:
        wire = H2Wire(matches=False)
        wire.send(GRPC, b"x")
        assert "grpc-status=12" in wire.take()[0]

    def test_an_upstream_that_is_lost_before_its_answer_and_within(self, wire: H2Wire) -> None:
        for stream in (wire.send(GRPC, b"x"), wire.send(GRPC, b"x")):
            asked(wire, stream)
        wire.exchange(1).upstream_lost("upstream_read_timeout")
        assert "grpc-status=14" in wire.take()[0]
        wire.answer(3, length=CHUNKED, eos=False)
        wire.exchange(3).upstream_lost("upstream_read_timeout")
        assert wire.take() == ["3: reset INTERNAL_ERROR"]

    def test_what_is_not_grpc_is_answered_in_http(self) -> None:
        wire = H2Wire(matches=False)
        wire.send(request(b"POST", b"/", (b"content-type", b"application/grpc-web")), b"x")
        assert wire.take()[0].startswith("1: 404 ")


def test_refused_frames_of_a_stream_that_is_over_cost_nothing(wire: H2Wire) -> None:
    stream = wire.send(request())
    asked(wire, stream)
    wire.answer(stream)
    wire.receive_frames(WindowUpdateFrame(stream, window_increment=5), RstStreamFrame(stream, error_code=8))
    assert (wire.take(), wire.goaway, HELD_SECONDS) == ([], None, 300.0)
