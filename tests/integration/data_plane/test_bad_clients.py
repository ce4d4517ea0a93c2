"""A client that is slow, leaves, sends too much, or does not read."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import pytest

from data_plane.config.snapshot import PluginBinding, Route, Snapshot, Timeouts, WasmPlugin
from data_plane.http import limits
from data_plane.http.downstream import ClientConnection
from data_plane.plugins.interface import ChainSink
from tests.support.gateway import LiveGateway, OneRoute, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, client, took

REQUEST = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
MIB = 1 << 20


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(limits, "BODY_IDLE_SECONDS", 0.3)
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.4)
    monkeypatch.setattr(limits, "LINGER_IDLE_SECONDS", 0.3)


def test_a_new_connection_that_says_nothing_is_closed_without_a_word(gateway: LiveGateway) -> None:
    with client(gateway.port) as raw, took(0.2, 0.6):
        assert raw.closes_within(2)


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nHost: t\r\n"])
def test_half_a_head_times_out_however_it_drips(gateway: LiveGateway, begin: bytes) -> None:
    with client(gateway.port) as raw, took(0.2, 0.7):
        raw.send(begin)
        time.sleep(0.2)
        raw.send(b"X")
        response = raw.response()
        assert response.status == 408
        assert response.field(b"connection") == b"close"
        assert raw.closes_within(1)


def test_half_a_head_and_gone(gateway: LiveGateway) -> None:
    with client(gateway.port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHo")
        gateway.until(lambda it: len(it.clients) == 1)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == b""
        gateway.until(lambda it: not it.clients)


def test_half_a_body_and_gone(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
        server.wait_for(b"half")
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == b""
        gateway.until(lambda it: not it.clients and it.pool.open() == 0)


def test_a_body_that_stalls(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        with took(0.2, 0.7):
            raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf")
            assert raw.response().status == 408
        assert raw.closes_within(1)
        gateway.until(lambda it: it.pool.open() == 0)


def test_what_is_pipelined_waits_at_the_client(gateway: LiveGateway) -> None:
    """One request is being answered; of the thousands behind it no more is read than may be held."""

    def script(side: UpstreamSide) -> None:
        side.head()
        go_on.wait(10)
        side.send(ok())
        while side.head():
            side.send(ok())

    go_on = threading.Event()
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(REQUEST)
        server.wait_for(b"GET")
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        raw.socket.setblocking(False)
        raw.send_what_fits(REQUEST * 400_000)
        held = gateway.ask(lambda: [len(it._buffer) for it in gateway.gateway.clients if isinstance(it, ClientConnection)])
        assert limits.PIPELINE_BYTES < sum(held) <= limits.PIPELINE_BYTES + 256 * 1024
        go_on.set()
        raw.socket.setblocking(True)
        assert [raw.response().status for _ in range(3)] == [200] * 3


def test_a_slow_but_steady_body_is_welcome(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(ok(side.body(6)))

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(0.1)
            raw.send(b"x")
        assert raw.response().body == b"xxxxxx"


@pytest.mark.parametrize("hard", [False, True], ids=["close", "reset"])
def test_a_client_that_leaves_takes_its_upstream_connection_with_it(gateway: LiveGateway, hard: bool) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(REQUEST)
        server.wait_for(b"\r\n\r\n")
        left = time.monotonic()
        if hard:
            raw.abort()
        else:
            raw.socket.close()
        assert server.connections[0].ended.wait(2)
        assert (server.connections[0].closed_by_peer_at or 0) - left < 0.1
        assert gateway.ask(lambda: gateway.gateway.counters.client_aborts) == 1


def test_a_client_that_leaves_a_download(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            side.send(bytes(MIB))

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(REQUEST)
        raw.wait_for(bytes(MIB))
        raw.abort()
        gateway.until(lambda it: it.pool.open() == 0, 1)
        assert gateway.ask(gateway.gateway.pool.idle) == 0


def test_a_client_that_does_not_read_is_cut_after_its_time(gateway: LiveGateway) -> None:
    sent = []

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            side.send(bytes(MIB))
            sent.append(MIB)

    with upstream(script) as server, client(gateway.port) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        gateway.route(route_to(server.port, timeouts=Timeouts(read=0.2)))
        raw.send(REQUEST)
        gateway.until(lambda it: it.busy() == 1)
        with took(0.2, 2):
            gateway.until(lambda it: not it.clients)
        gateway.until(lambda it: it.pool.open() == 0)
    # What the kernel's buffers hold, and little more.
    assert sum(sent) < 20 * MIB


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_early_answer_is_read_by_a_client_that_is_still_sending(gateway: LiveGateway, chunked: bool) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
        side.wait_for_close()

    size = 30 * MIB
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\n%b\r\n\r\n" % framing)
        piece = b"100000\r\n%b\r\n" % bytes(MIB) if chunked else bytes(MIB)
        for _ in range(size // MIB):
            raw.send(piece)
        response = raw.response()
        assert (response.status, response.body) == (413, b"no!")
        assert raw.closes_within(2)
        gateway.until(lambda it: it.pool.open() == 0)


def test_a_refusal_is_read_by_a_client_that_is_still_sending(gateway: LiveGateway) -> None:
    gateway.route(route_to(1), b"/known")
    with client(gateway.port) as raw:
        raw.send(b"POST /unknown HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (20 * MIB))
        for _ in range(20):
            raw.send(bytes(MIB))
        assert raw.response().status == 404
        assert raw.closes_within(2)


def send_until(raw: RawClient, deadline: float) -> None:
    while time.monotonic() < deadline:
        raw.send(b"more")
        time.sleep(0.05)


def test_a_linger_ends(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.6)
    with client(gateway.port) as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
        assert raw.response().status == 503
        with took(0.3, 2):
            gateway.until(lambda it: not it.clients)
    with client(gateway.port) as raw:
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
        assert raw.response().status == 503
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            send_until(raw, began + 5)
        assert time.monotonic() - began < 1.5


def test_bad_framing_in_the_middle_of_a_body_is_refused_and_never_completed(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        server.wait_for(b"hello\r\n")
        raw.send(b"zz\r\n")
        assert raw.response().status == 400
        assert raw.closes_within(1)
        # One that was being opened is as good as new.
        gateway.until(lambda it: it.pool.open() == it.pool.idle())
        assert not server.received.endswith(b"0\r\n\r\n")


TOO_LARGE = {
    "declared": (b"Content-Length: 11\r\nExpect: 100-continue\r\n", b""),
    "declared, and here": (b"Content-Length: 11\r\n", b"x" * 11),
    "chunks": (b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n6\r\nworld!\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(("fields", "body"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_body_over_the_limit(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, fields: bytes, body: bytes, step: int
) -> None:
    monkeypatch.setattr(limits, "BODY_BYTES", 10)
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\n%b\r\n" % fields)
        for start in range(0, len(body), step):
            raw.send(body[start : start + step])
        response = raw.response()
        assert (response.status, response.field(b"connection")) == (413, b"close")
        assert raw.closes_within(1)
        # One that was being opened is as good as new.
        gateway.until(lambda it: it.pool.open() == it.pool.idle())
        assert not server.received.endswith(b"0\r\n\r\n")


def test_a_body_at_the_limit(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.until(b"0\r\n\r\n")
        side.send(ok())

    monkeypatch.setattr(limits, "BODY_BYTES", 10)
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n")
        assert raw.response().status == 200


def test_the_last_request_of_a_connection_says_so(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_plane.http.reading.MOST_REQUESTS", 2)
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().field(b"connection") is None
        assert raw.get().field(b"connection") is None
        assert raw.get().field(b"connection") == b"close"
        assert raw.closes_within(1)


def test_one_client_too_many_is_told_so(gateway: LiveGateway) -> None:
    gateway.ask(lambda: setattr(gateway.gateway, "limit", 2))
    with client(gateway.port) as one, client(gateway.port) as two:
        gateway.until(lambda it: len(it.clients) == 2)
        with client(gateway.port) as raw:
            response = raw.response()
            assert (response.status, response.body) == (503, b'{"error_msg":"too many connections"}\n')
            assert raw.closes_within(1)
        one.socket.close()
        gateway.until(lambda it: len(it.clients) == 1)
        assert two.get().status == 503
        with client(gateway.port) as raw:
            assert raw.get().body == b'{"error_msg":"no configuration has been loaded yet"}\n'


def sweep(gateway: LiveGateway) -> None:
    def look() -> None:
        for one in tuple(gateway.gateway.clients):
            one.sweep(15, 3)

    gateway.ask(look)


def test_a_request_that_waits_for_a_worker_that_stood_still_is_answered(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time was over before the loop could look: first it looks."""
    monkeypatch.setattr(limits, "HEAD_SECONDS", 30)
    stands_still, go_on = threading.Event(), threading.Event()

    class StandingStill(OneRoute):
        def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
            if path == b"/still":
                for one in gateway.gateway.clients:
                    assert isinstance(one, ClientConnection)
                    one._deadline.set(0)
                stands_still.set()
                go_on.wait(10)
            return super().match(method, host, path)

    with upstream(answering(ok())) as server, client(gateway.port) as raw, client(gateway.port) as other:
        route = route_to(server.port)
        snapshot = Snapshot(1, StandingStill(route), {route.id: route})
        gateway.until(lambda it: len(it.clients) == 2)
        gateway.ask(lambda: setattr(gateway.gateway, "snapshot", snapshot))
        other.send(b"GET /still HTTP/1.1\r\nHost: t\r\n\r\n")
        assert stands_still.wait(10)
        raw.send(REQUEST)
        go_on.set()
        assert raw.response().body == b"ok"


def test_an_idle_client_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch, gateway: LiveGateway) -> None:
    with client(gateway.port) as raw:
        raw.get()
        for _ in range(16):
            assert gateway.ask(lambda: len(gateway.gateway.clients)) == 1
            sweep(gateway)
        sweep(gateway)
        assert raw.closes_within(1)


def test_a_request_between_two_sweeps_keeps_the_connection(gateway: LiveGateway) -> None:
    with client(gateway.port) as raw:
        for _ in range(4):
            raw.get()
            for _ in range(10):
                sweep(gateway)
        assert raw.get().status == 503


class Holding:
    """A chain whose plugin pauses the request for ever."""

    reads_request_body = reads_response_body = reads_trailers = False
    request_backlog = response_backlog = 0
    holding = True

    def __init__(self, sink: ChainSink) -> None:
        self._sink = sink

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> None: ...

    def request_body(self, data: bytes, eos: bool) -> None: ...

    def request_trailers(self, lines: bytes) -> None: ...

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._sink.forward_response_head(head)

    def response_body(self, data: bytes, eos: bool) -> None:
        self._sink.forward_response_body(data, eos)

    def response_trailers(self, lines: bytes) -> None: ...

    def finish(self) -> None: ...


def test_a_plugin_that_pauses_for_ever_is_answered_for(gateway: LiveGateway) -> None:
    gateway.runtime.make = Holding
    binding = PluginBinding(WasmPlugin("p", 0, ""), b"", "route/1", 0)
    gateway.route(replace(route_to(1), bindings=(binding,)))
    with client(gateway.port) as raw:
        for _ in range(2):
            raw.send(REQUEST)
            gateway.until(lambda it: it.busy() == 1)
            for _ in range(4):
                assert gateway.ask(gateway.gateway.busy) == 1
                sweep(gateway)
            response = raw.response()
            assert (response.status, response.field(b"connection")) == (504, None)
