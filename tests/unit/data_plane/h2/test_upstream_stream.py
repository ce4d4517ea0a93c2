"""One request over a stream of an upstream's connection, as the exchange sees it: messages of HTTP/1 here, frames there."""

from __future__ import annotations

from typing import Any, cast

import pytest
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded, StreamReset, TrailersReceived

from data_plane.config.snapshot import KeepalivePool, Node
from data_plane.exchange.messages import RequestFields, RequestHead, ResponseHead
from data_plane.exchange.sending import Sending
from data_plane.h2.pool import H2Pool
from data_plane.h2.upstream import WINDOW, UpstreamH2Connection
from data_plane.h2.upstream_stream import ATTEMPTS, REPLAY_BYTES, UpstreamStream
from tests.support.chain import ManualLoop
from tests.support.h2_server import Wire

HEAD = b"POST /s/m HTTP/1.1\r\nHost: t\r\nContent-Type: application/grpc\r\n"
NODE = Node("a", 80, 1, b"a")


class World:
    """The exchange and the pool around a stream; connections are given to it by `connected`."""

    keeps_trailers = True
    send_timeout = 5.0

    def __init__(self, method: bytes = b"POST") -> None:
        self.loop = ManualLoop()
        self.said: list[str] = []
        self.head = RequestHead(method, b"/", b"", RequestFields(b"", 1, b"", b"", b""))
        self.stream = UpstreamStream(cast(H2Pool, self), NODE, 1.0, KeepalivePool(), b"http", cast(Sending, self))
        self.wire = Wire(loop=self.loop)
        self.waiter: Any = self.stream

    def take(self) -> list[str]:
        self.loop.advance()
        said, self.said = self.said, []
        return said

    # The pool.

    def ask(self, node: Node, seconds: float, waiter: object) -> None:
        self.said.append(f"ask {node.host} {seconds:g}")

    def connected(self, conn: UpstreamH2Connection | None = None) -> None:
        self.stream.h2_ready(conn or self.wire.conn)

    # The exchange.

    def upstream_ready(self, conn: UpstreamStream) -> None:
        self.said.append(f"ready{' reused' if conn.reused else ''}")

    def upstream_failed(self, kind: str) -> None:
        self.said.append(f"failed {kind}")

    def upstream_interim(self, response: ResponseHead) -> None:
        self.said.append(f"interim {response.status}")

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        lines = response.open.partition(b"\r\n")[2].decode().replace("\r\n", "|")
        self.said.append(f"response {response.status} {response.length} {lines}{' eos' if eos else ''}")

    def upstream_body(self, data: bytes, eos: bool) -> None:
        self.said.append(f"body {len(data)}{' eos' if eos else ''}")

    def upstream_trailers(self, lines: bytes) -> None:
        self.said.append("trailers " + lines.decode().replace("\r\n", "|"))

    def upstream_lost(self, kind: str) -> None:
        self.said.append(f"lost {kind}")

    def upstream_blocked(self) -> None:
        self.said.append("blocked")

    def upstream_writable(self) -> None:
        self.said.append("writable")


@pytest.fixture
def world() -> World:
    return World()


def begun(world: World, data: bytes = HEAD + b"\r\n", timeout: float = 3.0) -> int:
    world.connected()
    world.stream.begin(cast(Sending, world), data, timeout)
    world.take()
    return 1


def answers(world: World, *fields: tuple[bytes, bytes], eos: bool = False) -> list[str]:
    world.wire.server.send_headers(1, [(b":status", b"200"), *fields], end_stream=eos)
    world.wire.reply()
    return world.take()


def requested(world: World) -> dict[bytes, bytes]:
    [event] = world.wire.took(RequestReceived)
    assert isinstance(event, RequestReceived)
    return dict(event.headers or ())


def test_a_request_without_a_body_is_one_frame(world: World) -> None:
    begun(world)
    assert requested(world) == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/s/m",
        b":authority": b"t",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    assert len(world.wire.took(StreamEnded)) == 1


def test_a_body_of_known_length(world: World) -> None:
    begun(world, HEAD + b"Content-Length: 6\r\n\r\nabc", 0.0)
    world.stream.send(b"def")
    assert (world.wire.data(), len(world.wire.took(StreamEnded)), requested(world)[b"content-length"]) == (b"abcdef", 1, b"6")


def test_chunks_become_data_and_trailers(world: World) -> None:
    begun(world, HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0.0)
    assert b"transfer-encoding" not in requested(world)
    for piece in (b"2\r\nd", b"e\r\n0\r\nX-Sum: 1\r\n\r\n"):
        world.stream.send(piece)
    assert world.wire.data() == b"abcde"
    [trailers] = world.wire.took(TrailersReceived)
    assert isinstance(trailers, TrailersReceived)
    assert list(trailers.headers or ()) == [(b"x-sum", b"1")]


def test_a_head_that_comes_after_the_connection(world: World) -> None:
    """A plugin may change the body, so that its framing is not known before its first piece."""
    begun(world, b"", 0.0)
    assert not world.wire.took(RequestReceived)
    world.stream.send(HEAD + b"Content-Length: 3\r\n\r\nabc")
    world.stream.await_response(3.0)
    assert (world.wire.data(), len(world.wire.took(StreamEnded))) == (b"abc", 1)


def test_a_head_that_comes_after_the_connection_has_gone(world: World) -> None:
    begun(world, b"", 0.0)
    world.wire.conn.connection_lost(None)
    world.stream.send(HEAD + b"Content-Length: 3\r\n\r\nabc")
    assert world.take() == ["ask a 1"]


def test_an_answer(world: World) -> None:
    begun(world)
    assert answers(world, (b"content-type", b"x")) == ["response 200 -1 content-type: x|"]
    world.wire.server.send_data(1, b"abc")
    world.wire.server.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    world.wire.reply()
    assert world.take() == ["body 3", "trailers grpc-status: 0|", "body 0 eos"]
    world.stream.release()
    assert (world.wire.conn.takes_more(), world.wire.took(StreamReset)) == (True, [])


def test_an_answer_of_trailers_only(world: World) -> None:
    begun(world)
    assert answers(world, (b"grpc-status", b"5"), eos=True) == ["response 200 -1 grpc-status: 5| eos"]


def test_interim_answers(world: World) -> None:
    begun(world)
    for status in (b"100", b"103"):
        world.wire.server.send_headers(1, [(b":status", status)])
    world.wire.reply()
    assert world.take() == ["interim 103"]


@pytest.mark.parametrize(
    ("length", "data", "eos"), [(b"2", b"abc", False), (b"5", b"abc", True), (b"x", b"", False), (b"1", b"", True)]
)
def test_an_answer_that_is_not_as_long_as_it_says(world: World, length: bytes, data: bytes, eos: bool) -> None:
    begun(world)
    world.wire.server.send_headers(1, [(b":status", b"200"), (b"content-length", length)], end_stream=eos and not data)
    if data:
        world.wire.server.send_data(1, data, end_stream=eos)
    world.wire.reply()
    assert world.take()[-1] == "lost upstream_bad_response"


@pytest.mark.parametrize("method", [b"HEAD"])
def test_a_length_of_no_body(method: bytes) -> None:
    world = World(method)
    begun(world, b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
    assert answers(world, (b"content-length", b"5"), eos=True) == ["response 200 5  eos"]


def test_an_answer_without_one_reading_costs_its_stream(world: World) -> None:
    begun(world)
    assert answers(world, (b"x", b"y\r\nset-cookie: z")) == ["lost upstream_bad_response"]
    assert len(world.wire.took(StreamReset)) == 1
    assert world.wire.conn.takes_more()


def test_silence_and_a_full_window_time_out() -> None:
    for data, kind in ((HEAD + b"\r\n", "read"), (HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000, "send")):
        world = World()
        begun(world, data)
        world.loop.advance(3.0 if kind == "read" else 5.0)
        assert world.take()[-1] == f"lost upstream_{kind}_timeout"
        assert len(world.wire.took(StreamReset)) == 1


def test_a_connection_from_which_nothing_came_since_gets_no_more_requests() -> None:
    for speaks in (False, True):
        world = World()
        world.loop.advance(1.0)
        begun(world)
        other = Wire(loop=world.loop)
        if speaks:
            world.wire.server.ping(b"12345678")
            world.loop.advance(1.0)
            world.wire.reply()
        world.loop.advance(3.0)
        assert world.take() == ["lost upstream_read_timeout"]
        assert (world.wire.conn.takes_more(), other.conn.takes_more()) == (speaks, True)


def test_what_comes_in_time_is_waited_for_anew_unless_the_exchange_has_paused_it(world: World) -> None:
    begun(world)
    answers(world)
    for _ in range(3):
        world.loop.advance(2.0)
        world.wire.server.send_data(1, b"x")
        world.wire.reply()
    world.stream.pause_reading()
    world.loop.advance(100.0)
    assert world.take() == ["body 1"] * 3
    world.stream.resume_reading()
    world.loop.advance(3.0)
    assert world.take() == ["lost upstream_read_timeout"]


def test_a_paused_answer_keeps_its_window_shut_and_no_other(world: World) -> None:
    begun(world)
    answers(world)
    world.stream.pause_reading()
    for _ in range(16):
        world.wire.server.send_data(1, b"x" * 16_000)
        world.wire.reply()
    assert world.wire.server.local_flow_control_window(1) == WINDOW - 256_000
    assert world.wire.server.outbound_flow_control_window >= WINDOW
    world.stream.resume_reading()
    assert world.take() == ["body 16000"] * 16
    assert world.wire.server.local_flow_control_window(1) == WINDOW


def test_the_exchange_sends_no_faster_than_the_peer_takes(world: World) -> None:
    begun(world, HEAD + b"Content-Length: 300000\r\n\r\n", 0.0)
    world.stream.send(b"x" * 150_000)
    assert world.take() == ["blocked"]
    world.wire.server.increment_flow_control_window(1 << 20)
    world.wire.server.increment_flow_control_window(1 << 20, 1)
    world.wire.reply()
    assert world.take() == ["writable"]
    world.stream.send(b"x" * 150_000)
    assert (len(world.wire.data()), len(world.wire.took(StreamEnded))) == (300_000, 1)


class TestAnotherConnection:
    def lost(self, world: World, *, unprocessed: bool = True) -> list[str]:
        code = ErrorCodes.REFUSED_STREAM if unprocessed else ErrorCodes.INTERNAL_ERROR
        world.wire.server.reset_stream(1, code)
        world.wire.reply()
        return world.take()

    def test_gets_what_the_peer_has_not_begun(self, world: World) -> None:
        begun(world, HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 0.0)
        assert self.lost(world) == ["ask a 1"]
        world.stream.send(b"3\r\ndef\r\n")
        world.wire = Wire(loop=world.loop)
        world.connected()
        world.stream.send(b"0\r\n\r\n")
        assert (world.wire.data(), len(world.wire.took(StreamEnded))) == (b"abcdef", 1)
        assert answers(world) == ["response 200 -1 "]

    def test_gets_nothing_that_may_have_been_begun(self, world: World) -> None:
        begun(world)
        assert self.lost(world, unprocessed=False) == ["lost upstream_closed"]

    def test_gets_nothing_that_is_not_here_any_more(self, world: World) -> None:
        begun(world, HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 40_000, 0.0)
        world.stream.send(b"x" * REPLAY_BYTES)
        world.take()
        assert self.lost(world) == ["lost upstream_closed"]

    def test_and_what_is_too_much_while_it_is_looked_for(self, world: World) -> None:
        begun(world, HEAD + b"Content-Length: 200000\r\n\r\nabc", 0.0)
        assert self.lost(world) == ["ask a 1"]
        world.stream.send(b"x" * (REPLAY_BYTES + 1))
        assert world.take() == ["lost upstream_closed"]
        world.connected(Wire(loop=world.loop).conn)

    def test_is_looked_for_so_often_and_no_more(self, world: World) -> None:
        begun(world)
        for attempt in range(ATTEMPTS):
            assert self.lost(world) == (["ask a 1"] if attempt < ATTEMPTS - 1 else ["lost upstream_closed"])
            world.wire = Wire(loop=world.loop)
            world.connected()
            world.loop.advance()

    def test_that_does_not_come(self, world: World) -> None:
        begun(world)
        self.lost(world)
        world.stream.h2_failed("upstream_connect_failed")
        assert world.take() == ["lost upstream_connect_failed"]

    def test_is_not_looked_for_once_the_exchange_has_gone(self, world: World) -> None:
        begun(world)
        self.lost(world)
        world.stream.close()
        wire = Wire(loop=world.loop)
        world.connected(wire.conn)
        assert not wire.took(RequestReceived)


def test_an_exchange_that_has_gone_resets_its_stream(world: World) -> None:
    begun(world)
    world.stream.close()
    world.wire.server.send_headers(1, [(b":status", b"200")])
    world.wire.reply()
    assert len(world.wire.took(StreamReset)) == 1
    assert world.take() == []


def test_no_connection(world: World) -> None:
    world.stream.h2_failed("upstream_connect_timeout")
    assert world.take() == ["failed upstream_connect_timeout"]


def test_a_connection_that_has_carried_others_counts_as_reused(world: World) -> None:
    begun(world)
    other = World()
    other.stream.h2_ready(world.wire.conn)
    assert other.take() == ["ready reused"]
    other.stream.release()
