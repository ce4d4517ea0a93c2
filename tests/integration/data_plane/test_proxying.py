"""What a client and an upstream see of the gateway between them when both behave."""

from __future__ import annotations

import threading

import pytest

from data_plane.config.snapshot import KeepalivePool
from tests.support.gateway import LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import client

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_request_reaches_the_upstream_with_what_the_gateway_saw(gateway: LiveGateway) -> None:
    with upstream(answering(ok(b"hello", b"X-From: upstream"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        response = raw.get(b"/a/b?c=d", b"X-Mine: 1", b"X-Real-IP: 6.6.6.6", b"X-Forwarded-Proto: https")
        assert (response.status, response.body) == (200, b"hello")
        assert response.field(b"x-from") == b"upstream"
        assert response.field(b"connection") is None
    assert server.received == (
        b"GET /a/b?c=d HTTP/1.1\r\nHost: t\r\nX-Mine: 1\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Port: %d\r\nX-Forwarded-Host: t\r\n\r\n" % gateway.port
    )


def test_both_sides_keep_their_connections(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert [raw.get().status for _ in range(20)] == [200] * 20
        assert len(server.connections) == 1
        assert gateway.ask(gateway.gateway.pool.idle) == 1


def test_the_pool_obeys_its_figures(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, keepalive=KeepalivePool(size=10, idle_timeout=60, requests=5)))
        for _ in range(12):
            raw.get()
        assert len(server.connections) == 3
        gateway.route(route_to(server.port, keepalive=KeepalivePool(size=0)))
        with upstream(answering(ok())) as other:
            gateway.route(route_to(other.port, keepalive=KeepalivePool(size=0)))
            raw.get()
            raw.get()
            assert len(other.connections) == 2


def test_an_idle_upstream_connection_is_closed_after_its_time(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, keepalive=KeepalivePool(idle_timeout=0.2)))
        raw.get()
        # The pool is swept every second.
        gateway.until(lambda it: it.pool.open() == 0, 3)


def test_pipelined_requests_are_answered_in_order(gateway: LiveGateway) -> None:
    with upstream(lambda side: echo_paths(side)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % number for number in range(50)))
        assert [raw.response().body for _ in range(50)] == [b"/%d" % number for number in range(50)]


def echo_paths(side: UpstreamSide) -> None:
    while head := side.head():
        side.send(ok(head.split()[1]))


@pytest.mark.parametrize("size", [1, 100, 70_000])
def test_a_request_body_of_known_length(gateway: LiveGateway, size: int) -> None:
    body = b"x" * size

    def script(side: UpstreamSide) -> None:
        assert b"Content-Length: %d\r\n" % size in side.head()
        side.send(ok(side.body(size)))

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST /p HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
        assert raw.response().body == body


def test_a_chunked_request_and_response(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        head = side.head()
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert b"Trailer" not in head
        assert side.until(b"0\r\n\r\n") == b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        side.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n")
        go_on.wait(10)
        side.send(b"3\r\nbar\r\n0\r\nX: dropped\r\n\r\n")
        side.head()
        side.send(ok(b"next"))

    go_on = threading.Event()
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"POST /p HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;ext=1\r\nhello\r\n")
        server.wait_for(b"hello\r\n")
        raw.send(b"6\r\n world\r\n0\r\nX: dropped\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\n")
        raw.wait_for(b"foo\r\n")
        go_on.set()
        assert raw.response().body == b"foobar"
        assert raw.response().body == b"next"
        assert len(server.connections) == 1


def test_head_and_bodiless_statuses(gateway: LiveGateway) -> None:
    answers = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ok(b"end"),
    )
    with upstream(answering(*answers)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert raw.response(to_head=True).field(b"content-length") == b"10"
        assert raw.get().status == 204
        assert raw.get().status == 304
        raw.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert raw.response(to_head=True).status == 200
        assert raw.get().body == b"end"
        assert len(server.connections) == 1


def test_a_response_that_ends_with_its_connection(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.0 200 OK\r\n\r\nsome ")
        side.send(b"bytes")

    with upstream(script) as server:
        gateway.route(route_to(server.port))
        with client(gateway.port) as raw:
            response = raw.get()
            assert response.field(b"transfer-encoding") == b"chunked"
            assert (response.body, response.complete) == (b"some bytes", True)
            assert raw.get().body == b"some bytes"
        with client(gateway.port) as raw:
            raw.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            response = raw.response()
            assert response.field(b"transfer-encoding") is None
            assert response.field(b"connection") == b"close"
            assert (response.body, response.complete) == (b"some bytes", True)


def test_http_1_0_clients(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server:
        gateway.route(route_to(server.port))
        with client(gateway.port) as raw:
            raw.send(b"GET / HTTP/1.0\r\n\r\n")
            assert raw.response().field(b"connection") == b"close"
            assert raw.closes_within(1)
        assert b"HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port in server.received
        with client(gateway.port) as raw:
            for _ in range(2):
                raw.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                assert raw.response().field(b"connection") == b"keep-alive"


@pytest.mark.parametrize(
    ("pass_host", "expected"), [("pass", b"t"), ("node", None), ("rewrite", b"other.example")], ids=["pass", "node", "rewrite"]
)
def test_the_host_that_the_upstream_sees(gateway: LiveGateway, pass_host: str, expected: bytes | None) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, pass_host=pass_host, upstream_host=b"other.example"))  # type: ignore[arg-type]
        raw.get()
        assert b"\r\nHost: %b\r\n" % (expected or b"127.0.0.1:%d" % server.port) in server.received
        assert server.received.lower().count(b"\r\nhost:") == 1
        assert b"X-Forwarded-Host: t\r\n" in server.received


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["alone", "behind a 100"])
def test_interim_responses_are_passed_on_but_for_100(gateway: LiveGateway, before: bytes) -> None:
    interim = before + HINTS + b"Connection: X-Hop\r\nX-Hop: 1\r\n\r\n"
    with upstream(answering(interim + ok(b"final"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        for _ in range(2):
            raw.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            assert raw.response().head == HINTS + b"\r\n"
            assert raw.response().body == b"final"
    assert len(server.connections) == 1


def test_a_client_of_http_1_0_gets_no_interim_response(gateway: LiveGateway) -> None:
    with upstream(answering(HINTS + b"\r\n" + ok(b"final"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.response().body == b"final"


def test_after_an_interim_response_nothing_is_sent_again(gateway: LiveGateway) -> None:
    """A connection that was idle is lost: but its end did not race the request, which has been read."""

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(ok())
        side.head()
        side.send(HINTS + b"\r\n")

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().status == 200
        assert raw.get().status == 103
        assert raw.response().status == 502
        assert server.received.count(b"GET") == 2


def test_a_client_that_expects_100_gets_it_when_the_body_is_wanted(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        head = side.head()
        assert b"expect" not in head.lower()
        side.send(ok(side.body(5)))

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port), b"/known")
        raw.send(b"POST /known HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert raw.response().status == 100
        raw.send(b"hello")
        assert raw.response().body == b"hello"
        raw.send(b"POST /unknown HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        response = raw.response()
        assert response.status == 404
        assert response.field(b"connection") == b"close"


def test_replies_of_the_gateway(gateway: LiveGateway) -> None:
    with client(gateway.port) as raw:
        response = raw.get()
        assert (response.status, response.body) == (503, b'{"error_msg":"no configuration has been loaded yet"}\n')
        gateway.route(route_to(1), b"/known")
        response = raw.get(b"/unknown")
        assert (response.status, response.body) == (404, b'{"error_msg":"404 Route Not Found"}\n')
        assert response.field(b"content-type") == b"application/json"
        gateway.route(route_to())
        assert raw.get().status == 503
        gateway.route(route_to(problem="service_missing"))
        assert raw.get().status == 404
        gateway.route(route_to(problem="upstream_not_found"))
        assert raw.get().status == 502
        gateway.route(route_to(problem="something this version does not know"))
        assert raw.get().status == 500


def test_the_counters_count(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port), b"/known")
        raw.get(b"/known")
        raw.get(b"/unknown")
        raw.send(b"nonsense\r\n\r\n")
        raw.response()
        statistics = gateway.ask(gateway.gateway.counters.statistics)
        assert statistics["requests"] == 3
        assert (statistics["responses_2xx"], statistics["responses_4xx"]) == (1, 2)
