"""Connections that come through a load balancer which speaks the PROXY protocol, in the clear and over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator

import pytest

from data_plane.http import limits
from data_plane.http.trust import NOBODY
from data_plane.tls import listener as tls_listener
from tests.support.gateway import LOOPS, ScriptedUpstream, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, client
from tests.support.tls import Authority, LiveTlsGateway, live_tls_gateway, ssl_document

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"
AUTHORITY = Authority()
PAIR = AUTHORITY.issue("one.test")


@pytest.fixture(params=list(LOOPS), scope="module")
def running_gateway(request: pytest.FixtureRequest) -> Iterator[LiveTlsGateway]:
    with live_tls_gateway(request.param, proxied=True) as live:
        yield live


@pytest.fixture
def server(running_gateway: LiveTlsGateway) -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello"))) as running:
        running_gateway.show(route_to(running.port), one=ssl_document(PAIR, "one.test"))
        yield running


@pytest.fixture
def gateway(running_gateway: LiveTlsGateway, server: ScriptedUpstream) -> LiveTlsGateway:
    return running_gateway


def test_the_client_is_who_the_header_names(gateway: LiveTlsGateway, server: ScriptedUpstream) -> None:
    with client(gateway.port) as raw:
        raw.send(HEADER + REQUEST + REQUEST)
        assert raw.response().body == raw.response().body == b"hello"
    for line in (b"X-Real-IP: 192.0.2.1", b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Port: 443", b"X-Forwarded-Proto: http"):
        assert server.received.count(line + b"\r\n") == 2


def test_a_header_may_come_byte_by_byte(gateway: LiveTlsGateway) -> None:
    with client(gateway.port) as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HEADER + REQUEST:
            raw.send(bytes([byte]))
        assert raw.response().body == b"hello"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"])
def test_the_balancers_own_connection_is_its_own(gateway: LiveTlsGateway, server: ScriptedUpstream, header: bytes) -> None:
    with client(gateway.port) as raw:
        raw.send(header + REQUEST)
        assert raw.response().body == b"hello"
    assert b"X-Real-IP: 127.0.0.1\r\n" in server.received


def test_tls_comes_behind_it(gateway: LiveTlsGateway, server: ScriptedUpstream) -> None:
    raw = RawClient(gateway.tls_port)
    try:
        raw.send(HEADER)
        raw.socket = AUTHORITY.trusting().wrap_socket(raw.socket, server_hostname="one.test")
        raw.send(REQUEST)
        assert raw.response().body == b"hello"
    finally:
        raw.socket.close()
    for line in (b"X-Real-IP: 192.0.2.1", b"X-Forwarded-Port: 443", b"X-Forwarded-Proto: https"):
        assert line + b"\r\n" in server.received


def test_a_trusted_address_that_sends_none_is_refused(gateway: LiveTlsGateway) -> None:
    with client(gateway.port) as raw:
        raw.send(REQUEST)
        with pytest.raises((EOFError, ConnectionError)):
            raw.response()
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", gateway.tls_port)) as plain:
        AUTHORITY.trusting().wrap_socket(plain, server_hostname="one.test")
    gateway.until(lambda it: not it.clients)


@pytest.mark.parametrize("secured", [False, True])
def test_who_has_said_nothing_when_a_worker_stops_may_still_ask(monkeypatch: pytest.MonkeyPatch, secured: bool) -> None:
    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 10)
    monkeypatch.setattr(tls_listener, "DRAIN_SECONDS", 10)

    async def stop(live: LiveTlsGateway) -> int:
        await live.tls.drain()
        return await live.gateway.drain(10)

    with live_tls_gateway(proxied=True) as live, upstream(answering(ok(b"hello"))) as running:
        live.show(route_to(running.port), one=ssl_document(PAIR, "one.test"))
        raw = RawClient(live.tls_port if secured else live.port)
        try:
            live.until(lambda it: len(it.clients) == 1)
            if secured:
                # What comes next is a hello.
                raw.send(HEADER)
                live.until(lambda _: live.tls.handshaking == 1)
            stopped = asyncio.run_coroutine_threadsafe(stop(live), live.gateway.loop)
            live.until(lambda it: it.draining or bool(live.tls.handshaking))
            if secured:
                raw.socket = AUTHORITY.trusting().wrap_socket(raw.socket, server_hostname="one.test")
            raw.send(REQUEST if secured else HEADER + REQUEST)
            assert raw.response().body == b"hello"
        finally:
            raw.socket.close()
        assert stopped.result(5) == 0


def test_a_header_has_its_time(gateway: LiveTlsGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    with client(gateway.port) as raw:
        raw.send(HEADER[:10])
        with pytest.raises((EOFError, ConnectionError)):
            raw.response()
    gateway.until(lambda it: not it.clients)


def test_of_anybody_else_it_is_nonsense(gateway: LiveTlsGateway) -> None:
    before = gateway.gateway.trust
    gateway.ask(lambda: setattr(gateway.gateway, "trust", NOBODY))
    try:
        with client(gateway.port) as raw:
            raw.send(HEADER + REQUEST)
            assert raw.response().status == 400
        with client(gateway.port) as raw:
            raw.send(REQUEST)
            assert raw.response().status == 200
    finally:
        gateway.ask(lambda: setattr(gateway.gateway, "trust", before))
