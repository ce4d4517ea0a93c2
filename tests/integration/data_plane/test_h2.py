"""HTTP/2 from real clients, and from h2 over a socket, beside HTTP/1 on the same port."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import HeadersFrame

from data_plane.h2.choosing import ChoosingConnection
from data_plane.h2.downstream import H2ClientConnection
from data_plane.h2.frames import PREFACE
from data_plane.http import limits, pressure
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway
from tests.support.gateway import LOOPS, LiveGateway, UpstreamSide, live_gateway, ok, route_to, upstream
from tests.support.h2_client import Deaf, Fields, request
from tests.support.raw_http import RawClient, client

MEBIBYTE = 1 << 20


def either(gateway: Gateway) -> ChoosingConnection:
    return ChoosingConnection(gateway, ClientConnection, H2ClientConnection)


@pytest.fixture(scope="module", params=list(LOOPS))
def gateway(request: pytest.FixtureRequest) -> Iterator[LiveGateway]:
    with live_gateway(request.param, either) as live:
        yield live


class H2Client:
    """h2 over a blocking socket."""

    def __init__(self, raw: RawClient) -> None:
        self._socket = raw.socket
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.h2.state_machine = Deaf()
        self.h2.initiate_connection()
        self.flush()
        self._events: list[Event] = []

    def flush(self) -> None:
        self._socket.sendall(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, fields: Fields, body: bytes | None = None) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def next(self, *kinds: type[Event]) -> Event | None:
        """The next event of these kinds, None when the connection has ended."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, kinds):
                    return event
            data = self._socket.recv(1 << 18)
            if not data:
                return None
            self._events += self.h2.receive_data(data)
            for event in self._events:
                if isinstance(event, DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            self.flush()

    def answers(self, *streams: int) -> dict[int, tuple[bytes, bytes]]:
        """The status and body of each."""
        found = dict.fromkeys(streams, (b"", b""))
        open_streams = set(streams)
        while open_streams:
            event = self.next(ResponseReceived, DataReceived, StreamEnded, StreamReset)
            assert event is not None
            stream = getattr(event, "stream_id", 0)
            status, body = found[stream]
            if isinstance(event, ResponseReceived):
                found[stream] = (dict(event.headers or ())[b":status"], body)
            elif isinstance(event, DataReceived):
                found[stream] = (status, body + (event.data or b""))
            else:
                assert isinstance(event, StreamEnded), event
                open_streams.discard(stream)
        return found


@pytest.fixture
def h2_client(gateway: LiveGateway) -> Iterator[H2Client]:
    with client(gateway.port) as raw:
        yield H2Client(raw)


def echo(side: UpstreamSide) -> None:
    """Answers with the path, or with as many bytes as /bytes/N asks for, or with the size of the body."""
    while head := side.head():
        path = head.split(b" ")[1]
        if b"Transfer-Encoding: chunked" in head:
            size = 0
            while chunk := int(side.until(b"\r\n"), 16):
                size += len(side.body(chunk + 2)) - 2
            side.until(b"\r\n")
            side.send(ok(b"%d" % size))
        elif path.startswith(b"/bytes/"):
            size = int(path[7:])
            side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(0, size, MEBIBYTE):
                side.send(b"x" * min(size, MEBIBYTE))
        else:
            side.send(ok(path))


def test_streams_of_one_connection_are_answered_side_by_side(gateway: LiveGateway, h2_client: H2Client) -> None:
    with upstream(echo) as server:
        gateway.route(route_to(server.port))
        paths = {h2_client.ask(request(b"GET", b"/%d" % number)): b"/%d" % number for number in range(50)}
        assert h2_client.answers(*paths) == {stream: (b"200", path) for stream, path in paths.items()}
        assert len(gateway.ask(lambda: tuple(gateway.gateway.clients))) == 1


def test_the_same_port_speaks_http1(gateway: LiveGateway) -> None:
    with upstream(echo) as server, client(gateway.port) as one, client(gateway.port) as two:
        gateway.route(route_to(server.port))
        assert one.get(b"/one").body == b"/one"
        # Until the third byte it could be HTTP/2, and in one byte nothing is known.
        for piece in (b"P", b"R", b"OPFIND / HTTP/1.1\r\nHost: t\r\n\r\n"):
            two.send(piece)
        assert two.response().status == 200


def test_a_preface_in_pieces(gateway: LiveGateway) -> None:
    with upstream(echo) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        hello = h2.data_to_send()
        for at in range(0, len(PREFACE) + 3, 5):
            raw.send(hello[at : at + 5])
        raw.wait_for(b"\x04\0\0\0\0\0")


def test_an_offer_to_upgrade_is_not_taken(gateway: LiveGateway) -> None:
    """RFC 9113 3.1: that way into HTTP/2 is no more."""
    with upstream(echo) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        answer = raw.get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
        assert answer.status == 200
        assert b"Settings" not in server.received


def test_a_client_that_sends_nothing_is_one_of_those_who_are_counted(gateway: LiveGateway) -> None:
    with client(gateway.port):
        gateway.until(lambda served: len(served.clients) == 1)
    gateway.until(lambda served: not served.clients)


def test_bodies_larger_than_all_windows_in_both_directions(gateway: LiveGateway, h2_client: H2Client) -> None:
    size = 8 * MEBIBYTE
    with upstream(echo) as server:
        gateway.route(route_to(server.port))
        stream = h2_client.ask(request(b"GET", b"/bytes/%d" % size))
        status, body = h2_client.answers(stream)[stream]
        assert (status, len(body)) == (b"200", size)


def test_an_answer_that_nobody_reads_stays_with_the_upstream(gateway: LiveGateway) -> None:
    sent = threading.Event()

    def endless(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        side.socket.settimeout(0.3)
        try:
            for _ in range(1024):
                side.send(b"x" * MEBIBYTE)
        except TimeoutError:
            sent.set()

    with upstream(endless) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        h2 = H2Client(raw)
        h2.ask(request())
        assert sent.wait(10), "all of it was taken"
        h2.h2.reset_stream(1, ErrorCodes.CANCEL)
        h2.flush()
        gateway.until(lambda served: served.pool.open() == 0)


def test_heads_that_are_not_completed_are_bounded_together(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "HEADS_SECONDS", 0.01)
    monkeypatch.setattr(limits, "HELD_HEAD_BYTES", 25_000)
    with ExitStack() as stack:
        sizes = (5_000, 16_000, 9_000)
        crowd = [H2Client(stack.enter_context(client(gateway.port))) for _ in sizes]
        for one, size in zip(crowd, sizes, strict=True):
            one.send(HeadersFrame(1, bytes(size), flags=["END_HEADERS"]).serialize()[:-1])
        gateway.until(lambda it: sum(getattr(one, "held_head", 0) for one in it.clients) > 25_000)
        guard = gateway.ask(lambda: pressure.HeadGuard(gateway.gateway))
        stack.callback(gateway.ask, guard.close)
        told = crowd[1].next(ConnectionTerminated)
        assert isinstance(told, ConnectionTerminated)
        assert told.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        gateway.until(lambda it: sum(getattr(one, "held_head", 0) for one in it.clients) == 13_998)


def test_a_stop_waits_for_what_is_in_flight(gateway: LiveGateway) -> None:
    go, asked = threading.Event(), threading.Event()

    def slow(side: UpstreamSide) -> None:
        side.head()
        asked.set()
        go.wait(10)
        side.send(ok(b"late"))

    with live_gateway("uvloop", either) as live, upstream(slow) as server, client(live.port) as raw:
        live.route(route_to(server.port))
        h2 = H2Client(raw)
        stream = h2.ask(request())
        assert asked.wait(10)
        live.ask(lambda: next(iter(live.gateway.clients)).drain())
        assert h2.next(ConnectionTerminated) is not None
        go.set()
        assert h2.answers(stream) == {stream: (b"200", b"late")}
        assert h2.next(StreamReset) is None


@pytest.mark.parametrize("http2", [False, True])
def test_who_has_said_nothing_when_a_stop_begins_may_ask_once(http2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 10)
    with live_gateway("uvloop", either) as live, upstream(echo) as server, client(live.port) as raw:
        live.route(route_to(server.port))
        live.until(lambda it: len(it.clients) == 1)
        drained = asyncio.run_coroutine_threadsafe(live.gateway.drain(10), live.gateway.loop)
        live.until(lambda it: it.draining)
        if http2:
            h2 = H2Client(raw)
            stream = h2.ask(request())
            assert h2.answers(stream) == {stream: (b"200", b"/p")}
        else:
            answer = raw.get(b"/p")
            assert (answer.body, answer.field(b"connection")) == (b"/p", b"close")
        raw.socket.close()
        assert drained.result(5) == 0


def by_httpx(url: str, method: str, body: bytes | None) -> tuple[str, bytes]:
    with httpx.Client(http1=False, http2=True, trust_env=False) as session:
        answer = session.request(method, url, content=None if body is None else iter((body, body)))
        return answer.http_version, answer.content


def by_curl(url: str, method: str, body: bytes | None) -> tuple[str, bytes]:
    options = {"HEAD": ["-I"], "PUT": ["-T", "-"], "GET": []}[method]
    command = ["curl", "-sS", "--http2-prior-knowledge", "-m", "20", "-D", "/dev/stderr", *options, url]
    done = subprocess.run(command, input=None if body is None else body * 2, capture_output=True, check=True, timeout=30)
    return done.stderr[:6].decode(), done.stdout if method != "HEAD" else b""


CLIENTS = [by_httpx, by_curl] if shutil.which("curl") else [by_httpx]


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("GET", "/path?query", None, b"/path?query"),
        ("HEAD", "/bytes/0", None, b""),
        ("PUT", "/upload", b"x" * 3 * MEBIBYTE, b"%d" % (6 * MEBIBYTE)),
        ("GET", f"/bytes/{3 * MEBIBYTE}", None, b"x" * 3 * MEBIBYTE),
    ],
    ids=["get", "head", "upload", "download"],
)
def test_other_clients(
    gateway: LiveGateway, ask: Callable[..., tuple[str, bytes]], method: str, path: str, body: bytes | None, told: bytes
) -> None:
    with upstream(echo) as server:
        gateway.route(route_to(server.port))
        version, content = ask(f"http://127.0.0.1:{gateway.port}{path}", method, body)
        assert (version, content == told) == ("HTTP/2", True), content[:100]
