"""WebSocket through the gateway: with a real client and server, and byte for byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from data_plane.config.snapshot import Route, Timeouts
from data_plane.upstream_tls.client_tls import ClientTls
from tests.support.gateway import HOST, LOOPS, LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, client
from tests.support.tls import Authority, live_tls_gateway, ssl_document

OFFER = b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
REQUEST = b"GET /chat HTTP/1.1\r\nHost: t\r\n" + OFFER + b"\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
MIB = 1 << 20


def open_to(port: int, read: float = 5) -> Route:
    return replace(route_to(port, timeouts=Timeouts(5, 5, read)), enable_websocket=True)


def echo(side: ServerConnection) -> None:
    try:
        for message in side:
            side.send(message)
    except ConnectionClosed:
        return


@contextmanager
def echo_server(secured: ssl.SSLContext | None = None) -> Iterator[int]:
    with serve_websocket(echo, HOST, 0, max_size=None, ssl=secured) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(10)


def dial(gateway: LiveGateway) -> ClientConnection:
    return connect(f"ws://{HOST}:{gateway.port}/chat", max_size=None, proxy=None)


def test_a_real_client_talks_to_a_real_server(gateway: LiveGateway) -> None:
    with echo_server() as port:
        gateway.route(open_to(port))
        with dial(gateway) as one, dial(gateway) as two:
            for message in ("", "hello", "é" * 100_000, b"\0\1\2", bytes(range(256)) * 8192):
                for side in (one, two):
                    side.send(message)
                for side in (one, two):
                    assert side.recv(timeout=10) == message
            assert one.ping().wait(10)
            # A change of the configuration touches no session.
            gateway.route(route_to(1))
            one.send("still here")
            assert one.recv(timeout=10) == "still here"
            one.close(4000, "enough")
        assert one.close_code == 4000
        gateway.until(lambda it: not it.clients and it.pool.open() == 0)
        assert gateway.ask(lambda: gateway.gateway.counters.responses[101]) == 2
        assert gateway.ask(lambda: gateway.gateway.counters.client_aborts) == 0


@pytest.mark.parametrize("loop_name", LOOPS)
def test_over_tls_on_both_sides(loop_name: str, tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.issue("ws.test")
    (tmp_path / "pair.pem").write_text(pair.cert + pair.key)
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(tmp_path / "pair.pem")
    with live_tls_gateway(loop_name) as gateway, echo_server(secured) as port:
        route = open_to(port)
        assert route.upstream is not None
        upstream = replace(route.upstream, scheme="https", tls=ClientTls(verify=False))
        gateway.show(replace(route, upstream=upstream), one=ssl_document(pair, "ws.test"))
        url, sock = "wss://ws.test/chat", socket.create_connection((HOST, gateway.tls_port))
        with connect(url, sock=sock, ssl=authority.trusting(), max_size=None, proxy=None) as one:
            for message in ("hello", bytes(range(256)) * 8192):
                one.send(message)
                assert one.recv(timeout=10) == message
            one.close(4000, "enough")
        assert one.close_code == 4000
        gateway.until(lambda it: not it.clients and it.pool.open() == 0)


def test_where_it_is_not_enabled_the_offer_goes_no_further(gateway: LiveGateway) -> None:
    with echo_server() as port:
        gateway.route(route_to(port))
        with pytest.raises(InvalidStatus) as refused, dial(gateway):
            pass
        assert refused.value.response.status_code == 426
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(REQUEST + b"GET /next HTTP/1.1\r\nHost: t\r\n\r\n")
        assert [raw.response().status, raw.response().status] == [200, 200]
    assert b"upgrade" not in server.received.lower()


@contextmanager
def session(
    gateway: LiveGateway, *, early: bytes = b"", first: bytes = b"", read: float = 5
) -> Iterator[tuple[RawClient, UpstreamSide]]:
    """Both ends of an open tunnel; `early` came with the request's head, `first` with the response's."""
    switched, over = threading.Event(), threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(SWITCHED + first)
        switched.set()
        over.wait(10)

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(open_to(server.port, read))
        raw.send(REQUEST + early)
        response = raw.response()
        assert response.status == 101
        assert response.field(b"upgrade") == b"websocket"
        assert response.field(b"connection") == b"Upgrade"
        assert response.field(b"sec-websocket-accept") == b"x"
        assert switched.wait(5)
        try:
            yield raw, server.connections[0]
        finally:
            over.set()
    gateway.until(lambda it: not it.clients and it.pool.open() == 0)


def test_the_heads_of_the_handshake(gateway: LiveGateway) -> None:
    with session(gateway) as (_, side):
        head = bytes(side.received)
    assert head.startswith(b"GET /chat HTTP/1.1\r\nHost: t\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n")
    assert head.endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert head.lower().count(b"\r\nconnection:") == 1


def test_bytes_glued_to_the_heads_are_not_lost(gateway: LiveGateway) -> None:
    with session(gateway, early=b"GET / HTTP/1.1\r\n\r\n", first=b"HTTP/1.1 200 OK\r\n\r\n") as (raw, side):
        assert side.until(b"\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        raw.wait_for(b"HTTP/1.1 200 OK\r\n\r\n")
        raw.send(b"\x81\x00")
        assert side.body(2) == b"\x81\x00"


def test_a_client_that_ends_may_still_be_sent_to(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, side):
        raw.send(b"last words")
        raw.socket.shutdown(socket.SHUT_WR)
        assert side.until(b"nothing follows") == b"last words"
        side.send(b"x" * MIB)
        side.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == b"x" * MIB


def test_an_upstream_that_ends_may_still_be_sent_to(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, side):
        side.send(b"last words")
        side.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == b"last words"
        raw.send(b"x" * MIB)
        assert side.body(MIB) == b"x" * MIB


@pytest.mark.parametrize("hard", [False, True], ids=["close", "reset"])
def test_a_client_that_leaves_takes_its_upstream_connection_with_it(gateway: LiveGateway, hard: bool) -> None:
    with session(gateway) as (raw, side):
        if hard:
            raw.abort()
        else:
            raw.socket.close()
        side.wait_for_close()
        assert side.closed_by_peer_at is not None


def test_an_upstream_that_breaks_ends_the_client_s_connection(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, side):
        side.reset()
        assert raw.rest() == b""


def test_silence_ends_a_session(gateway: LiveGateway) -> None:
    with session(gateway, read=0.2) as (raw, side):
        side.send(b"x")
        assert raw.rest() == b"x"
        side.wait_for_close()


def fill(sender: socket.socket) -> int:
    """Send until nothing more is taken; how much that was."""
    sender.settimeout(0.3)
    sent = 0
    try:
        while sent < 64 * MIB:
            sent += sender.send(b"x" * 65536)
    except TimeoutError:
        sender.settimeout(10)
        return sent
    raise AssertionError(f"{sent} bytes were taken")


def test_a_client_that_does_not_read_stops_the_upstream(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, side):
        sent = fill(side.socket)
        side.socket.shutdown(socket.SHUT_WR)
        assert len(raw.rest()) == sent


def test_an_upstream_that_does_not_read_stops_the_client(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, side):
        sent = fill(raw.socket)
        raw.socket.shutdown(socket.SHUT_WR)
        assert len(side.until(b"nothing follows")) == sent


DECLINED = {
    "refused": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    "another version": b"HTTP/1.1 426 No\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", DECLINED.values(), ids=DECLINED.keys())
def test_an_upstream_that_declines_leaves_it_at_http(gateway: LiveGateway, answer: bytes) -> None:
    with upstream(answering(answer, ok(b"next"))) as server, client(gateway.port) as raw:
        gateway.route(open_to(server.port))
        raw.send(REQUEST + b"GET /next HTTP/1.1\r\nHost: t\r\n\r\n")
        assert raw.response().status == int(answer[9:12])
        assert raw.response().body == b"next"


BAD_SWITCHES = {
    "another protocol": SWITCHED.replace(b"websocket", b"h2c"),
    "two protocols": SWITCHED.replace(b"websocket", b"websocket, h2c"),
    "no protocol": SWITCHED.replace(b"Upgrade: websocket\r\n", b""),
    "no Connection": SWITCHED.replace(b"Connection: Upgrade\r\n", b""),
}


@pytest.mark.parametrize("answer", BAD_SWITCHES.values(), ids=BAD_SWITCHES.keys())
def test_a_switch_to_what_was_not_offered_is_a_bad_gateway(gateway: LiveGateway, answer: bytes) -> None:
    with upstream(answering(answer)) as server, client(gateway.port) as raw:
        gateway.route(open_to(server.port))
        raw.send(REQUEST)
        assert raw.response().status == 502


NO_OFFERS = {
    "h2c": REQUEST.replace(b"WebSocket\r", b"h2c\r"),
    "two protocols": REQUEST.replace(b"WebSocket\r", b"websocket, h2c\r"),
    "two lines": REQUEST.replace(b"Upgrade: WebSocket", b"Upgrade: websocket\r\nUpgrade: websocket"),
    "no Connection": REQUEST.replace(b", Upgrade\r", b"\r"),
    "HTTP/1.0": REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "POST": REQUEST.replace(b"GET", b"POST"),
    "a body": REQUEST.replace(b"Connection", b"Content-Length: 2\r\nConnection") + b"ab",
    "empty chunks": REQUEST.replace(b"Connection", b"Transfer-Encoding: chunked\r\nConnection") + b"0\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", NO_OFFERS.values(), ids=NO_OFFERS.keys())
def test_what_is_no_offer_of_websocket_is_not_passed_on_as_one(gateway: LiveGateway, request_bytes: bytes) -> None:
    def script(side: UpstreamSide) -> None:
        while head := side.head():
            side.send(SWITCHED if b"upgrade" in head.lower() else ok())

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(open_to(server.port))
        raw.send(request_bytes)
        assert raw.response().status == 200
    assert b"upgrade" not in server.received.lower()


def test_a_drain_waits_for_sessions_and_then_cuts_them(gateway: LiveGateway) -> None:
    with session(gateway) as (raw, _):
        drained = asyncio.run_coroutine_threadsafe(gateway.gateway.drain(0.2), gateway.gateway.loop)
        assert drained.result(5) == 1
        assert raw.rest() == b""
