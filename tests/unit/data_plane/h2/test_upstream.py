"""An HTTP/2 connection against h2's own server side, in memory: windows, ends, and peers that misbehave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from data_plane.config.snapshot import KeepalivePool
from data_plane.h2.upstream import UNUSED_SECONDS
from shared.proxy_wasm.pairs import Pairs
from tests.support.h2_server import FIELDS, Wire


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.on_data: Callable[[], None] = lambda: None

    def h2_headers(self, fields: Pairs, eos: bool) -> None:
        self.said.append(f"headers {dict(fields)[b':status'].decode()}{' eos' if eos else ''}")

    def h2_interim(self, fields: Pairs) -> None:
        self.said.append(f"interim {dict(fields)[b':status'].decode()}")

    def h2_taken(self) -> None: ...

    def h2_data(self, data: bytes) -> None:
        self.said.append(f"data {len(data)}")
        self.on_data()

    def h2_trailers(self, fields: Pairs) -> None:
        self.said.append(f"trailers {len(fields)}")

    def h2_end(self) -> None:
        self.said.append("end")

    def h2_lost(self, kind: str, unprocessed: bool) -> None:
        self.said.append(f"lost {kind}{' unprocessed' if unprocessed else ''}")


IDLE_SECONDS = KeepalivePool().idle_timeout


@pytest.fixture
def wire() -> Wire:
    return Wire()


def opened(wire: Wire) -> tuple[Listener, int]:
    listener = Listener()
    stream = wire.conn.open(listener, FIELDS)
    wire.loop.advance()
    return listener, stream


def test_a_stream_both_ways(wire: Wire) -> None:
    listener, stream = opened(wire)
    wire.conn.send(stream, b"hello", True)
    assert (len(wire.took(RequestReceived)), wire.data(), len(wire.took(StreamEnded))) == (1, b"hello", 1)
    wire.server.send_headers(stream, [(b":status", b"200")])
    wire.server.send_data(stream, b"abc")
    wire.server.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
    wire.reply()
    assert listener.said == ["headers 200", "data 3", "trailers 1", "end"]
    assert not wire.took(StreamReset)


def test_the_end_alone(wire: Wire) -> None:
    _, stream = opened(wire)
    wire.conn.send(stream, b"x", False)
    wire.conn.send(stream, b"", True)
    wire.conn.send(stream, b"late", True)
    assert (wire.data(), len(wire.took(StreamEnded))) == (b"x", 1)


def test_no_more_is_sent_than_the_peers_window_takes(wire: Wire) -> None:
    _, stream = opened(wire)
    wire.conn.send(stream, b"x" * 100_000, True)
    assert (len(wire.data()), wire.conn.unsent(stream)) == (65_535, 34_465)
    wire.server.increment_flow_control_window(1000, stream)
    wire.reply()
    assert len(wire.data()) == 65_535, "the connection's own window is still shut"
    wire.server.increment_flow_control_window(50_000)
    wire.reply()
    assert len(wire.data()) == 66_535
    wire.server.increment_flow_control_window(50_000, stream)
    wire.reply()
    assert (wire.data(), len(wire.took(StreamEnded))) == (b"x" * 100_000, 1)


def test_a_larger_window_in_settings_lets_waiting_data_go(wire: Wire) -> None:
    wire.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    wire.reply()
    _, stream = opened(wire)
    wire.conn.send(stream, b"x" * 40, True)
    assert len(wire.data()) == 10
    wire.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    wire.reply()
    assert len(wire.data()) == 40


def test_nothing_is_given_to_a_transport_that_is_full(wire: Wire) -> None:
    _, stream = opened(wire)
    wire.conn.pause_writing()
    wire.conn.send(stream, b"x" * 40, True)
    assert wire.data() == b""
    wire.conn.resume_writing()
    assert wire.data() == b"x" * 40


def test_what_is_read_opens_the_window_again(wire: Wire) -> None:
    listener, stream = opened(wire)
    wire.server.send_headers(stream, [(b":status", b"200")])
    for _ in range(40):
        wire.server.send_data(stream, b"x" * 16_000)
        wire.reply()
    assert listener.said.count("data 16000") == 40


def test_a_stream_that_the_peer_ends_first_is_reset(wire: Wire) -> None:
    listener, stream = opened(wire)
    wire.server.send_headers(stream, [(b":status", b"200"), (b"grpc-status", b"0")], end_stream=True)
    wire.reply()
    assert listener.said == ["headers 200 eos", "end"]
    assert len(wire.took(StreamReset)) == 1


def test_a_stream_of_no_interest_is_reset_and_silent(wire: Wire) -> None:
    listener, stream = opened(wire)
    wire.server.send_headers(stream, [(b":status", b"200")])
    wire.server.send_data(stream, b"one")
    wire.server.send_data(stream, b"two")
    listener.on_data = lambda: wire.conn.reset(stream)
    wire.reply()
    assert listener.said == ["headers 200", "data 3"]
    assert len(wire.took(StreamReset)) == 1


@pytest.mark.parametrize(
    ("code", "told"), [(ErrorCodes.REFUSED_STREAM, " unprocessed"), (ErrorCodes.INTERNAL_ERROR, "")], ids=["refused", "failed"]
)
def test_a_stream_that_the_peer_resets(wire: Wire, code: ErrorCodes, told: str) -> None:
    listener, stream = opened(wire)
    wire.conn.send(stream, b"x" * 100_000, True)
    # In the same bytes as room for what still waits.
    wire.server.increment_flow_control_window(50_000)
    wire.server.increment_flow_control_window(50_000, stream)
    wire.server.reset_stream(stream, code)
    wire.reply()
    assert listener.said == [f"lost upstream_closed{told}"]
    assert wire.conn.takes_more()


def test_a_peer_that_goes_away_ends_what_it_began(wire: Wire) -> None:
    (first, one), (second, _) = opened(wire), opened(wire)
    wire.conn.send(one, b"", True)
    wire.loop.advance()
    wire.server.close_connection(ErrorCodes.NO_ERROR, last_stream_id=one)
    going = wire.server.data_to_send()
    wire.conn.data_received(going)
    assert (first.said, second.said, wire.ended, wire.closed) == ([], ["lost upstream_closed unprocessed"], [wire.conn], False)
    assert not wire.conn.takes_more()
    # HEADERS of the first stream, by hand: h2's server has closed itself.
    wire.conn.data_received(bytes((0, 0, 1, 1, 5, 0, 0, 0, one, 0x88)))
    assert first.said == ["headers 200 eos", "end"]
    assert wire.closed


def test_as_many_streams_as_the_peer_takes(wire: Wire) -> None:
    wire.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    wire.reply()
    _, one = opened(wire)
    opened(wire)
    assert not wire.conn.takes_more()
    wire.conn.reset(one)
    assert wire.conn.takes_more()


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 50, b"\0\0\4\1\0\0\0\0\1"], ids=["http1", "noise", "headers"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_a_peer_that_speaks_something_else_is_known_by_its_first_bytes(data: bytes, size: int) -> None:
    wire = Wire(greets=False)
    listener, _ = opened(wire)
    for at in range(0, len(data), size):
        wire.conn.data_received(data[at : at + size])
    assert listener.said == ["lost upstream_bad_response"]
    assert wire.closed


def test_what_h2_refuses_ends_all_streams(wire: Wire) -> None:
    (first, _), (second, _) = opened(wire), opened(wire)
    wire.conn.data_received(b"\0\0\1\0\0\0\0\0\x63x")
    assert first.said == second.said == ["lost upstream_bad_response"]
    assert (wire.closed, wire.ended) == (True, [wire.conn])
    wire.conn.connection_lost(None)
    assert wire.ended == [wire.conn]


def test_a_peer_that_asks_without_reading_is_left(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 10_000
    monkeypatch.setattr("data_plane.h2.connection.UNREAD_BYTES", most)
    listener, _ = opened(wire)
    wire.stuck = True
    for _ in range(most // 17 + 100):
        wire.loop.advance(0.1)
        wire.conn.data_received(b"\0\0\x08\6\0\0\0\0\0pingpong")
    assert listener.said == ["lost upstream_send_timeout"]
    assert wire.unread < most + 100


def test_a_peer_that_asks_without_end_is_left(wire: Wire) -> None:
    listener, _ = opened(wire)
    for _ in range(300):
        wire.conn.data_received(b"\0\0\x08\6\0\0\0\0\0pingpong")
    assert listener.said == ["lost upstream_bad_response"]


def test_an_idle_connection_is_closed_after_a_while_and_a_busy_one_is_not(wire: Wire) -> None:
    _, stream = opened(wire)
    closed = []
    for seconds in (IDLE_SECONDS * 3, IDLE_SECONDS - 1, 2):
        wire.loop.advance(seconds)
        closed.append(wire.closed)
        wire.conn.reset(stream)
    assert closed == [False, False, True]
    assert wire.ended == [wire.conn]


def test_a_connection_is_kept_as_its_upstream_says() -> None:
    wire = Wire(keepalive=KeepalivePool(idle_timeout=7, requests=2))
    (_, one), (_, two) = opened(wire), opened(wire)
    assert (wire.conn.takes_more(), wire.ended, wire.closed) == (False, [wire.conn], False)
    wire.conn.reset(one)
    wire.conn.reset(two)
    assert wire.closed
    wire = Wire(keepalive=KeepalivePool(idle_timeout=7))
    _, stream = opened(wire)
    wire.conn.reset(stream)
    wire.loop.advance(6)
    assert (wire.closed, wire.rested) == (False, 1)
    wire.loop.advance(2)
    assert wire.closed


def test_one_that_nobody_uses_is_closed(wire: Wire) -> None:
    wire.loop.advance(UNUSED_SECONDS + 1)
    assert wire.closed
