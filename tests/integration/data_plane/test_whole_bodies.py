"""Bodies that a native plugin wants whole, from real clients over HTTP/1 and HTTP/2: large ones, slow ones, and none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from data_plane.config.snapshot import Route
from data_plane.h2.choosing import ChoosingConnection
from data_plane.h2.downstream import H2ClientConnection
from data_plane.http import limits
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway
from tests.support.gateway import HOST, LiveGateway, UpstreamSide, live_gateway, ok, route_to, upstream
from tests.support.native import compiled
from tests.support.raw_http import client

LARGE = b'{"id": 1, "more": "' + b"x" * 700_000 + b'"}'


def either(gateway: Gateway) -> ChoosingConnection:
    return ChoosingConnection(gateway, ClientConnection, H2ClientConnection)


@pytest.fixture(scope="module")
def gateway() -> Iterator[LiveGateway]:
    with live_gateway("uvloop", either) as live:
        yield live


def checked(port: int) -> Route:
    route = compiled({"request-validation": {"body_schema": {"type": "object", "required": ["id"]}}})
    return replace(route, upstream=route_to(port).upstream)


def counting(side: UpstreamSide) -> None:
    """Answers with the number of bytes of each body."""
    while head := side.head().lower():
        if b"chunked" in head:
            size = 0
            while chunk := int(side.until(b"\r\n"), 16):
                size += len(side.body(chunk + 2)) - 2
            side.until(b"\r\n")
        else:
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            assert len(side.body(size)) == size
        side.send(ok(b"%d" % size))


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("length", [False, True], ids=["unknown", "length"])
def test_large_bodies_come_whole(gateway: LiveGateway, http2: bool, length: bool) -> None:
    with (
        upstream(counting) as server,
        httpx.Client(http1=not http2, http2=http2, trust_env=False, timeout=10) as asking,
    ):
        gateway.route(checked(server.port))
        url = f"http://{HOST}:{gateway.port}/"
        for body, status, text in (
            (LARGE, 200, str(len(LARGE))),
            (b"{}", 400, 'property "id" is required'),
            (LARGE, 200, str(len(LARGE))),
        ):
            answer = asking.post(url, content=body if length else iter([body[:10], body[10:]]))
            assert (answer.status_code, answer.text) == (status, text)
        assert (answer.http_version == "HTTP/2") is http2


@pytest.mark.parametrize("framing", [b"Content-Length: 2000000", b"Transfer-Encoding: chunked"])
def test_too_large_a_body_is_refused_as_soon_as_that_is_known(gateway: LiveGateway, framing: bytes) -> None:
    with upstream(counting) as server, client(gateway.port) as raw:
        gateway.route(checked(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\n%b\r\n\r\n" % framing)
        if b"chunked" in framing:
            raw.send(b"%x\r\n%b\r\n" % (1_100_000, b"x" * 1_100_000))
        assert raw.response().status == 413
        assert server.received == b""


def test_a_client_that_waits_to_be_told_is_told(gateway: LiveGateway) -> None:
    with upstream(counting) as server, client(gateway.port) as raw:
        gateway.route(checked(server.port))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert raw.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.send(b'{"id": 1}')
        assert raw.response().body == b"9"


def test_a_body_that_stalls(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_IDLE_SECONDS", 0.2)
    with upstream(counting) as server, client(gateway.port) as raw:
        gateway.route(checked(server.port))
        began = time.monotonic()
        raw.send(b'POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{"id"')
        assert raw.response().status == 408
        assert time.monotonic() - began < 5
        assert server.received == b""
