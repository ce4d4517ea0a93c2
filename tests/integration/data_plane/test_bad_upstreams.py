"""An upstream that refuses, breaks off, talks nonsense or says nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from data_plane.config.snapshot import Timeouts
from tests.support.gateway import HOST, LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import client, took

POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab"
GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"


def closed_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_all_nodes_refuse(gateway: LiveGateway) -> None:
    gateway.route(route_to(closed_port(), closed_port()))
    with client(gateway.port) as raw, took(0, 1):
        assert raw.get().status == 502


@pytest.mark.parametrize("request_bytes", [GET, POST], ids=["GET", "POST"])
def test_a_node_that_refuses_is_passed_over(gateway: LiveGateway, request_bytes: bytes) -> None:
    def script(side: UpstreamSide) -> None:
        while head := side.head():
            if b"POST" in head:
                side.body(2)
            side.send(ok())

    with upstream(script) as one, upstream(script) as two, client(gateway.port) as raw:
        gateway.route(route_to(one.port, closed_port(), two.port))
        for _ in range(12):
            raw.send(request_bytes)
            assert raw.response().status == 200


GARBAGE = {
    "J02 not HTTP": b"garbage\r\n\r\n",
    "no end": b"garbage garbage garbage",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "J04 status abc": b"HTTP/1.1 abc X\r\nContent-Length: 2\r\n\r\nok",
    "status 99": b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok",
    "version 2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "J08 two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "J10 unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "J11 chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length +2": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "J12 fold": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n two\r\nContent-Length: 2\r\n\r\nok",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "J20 head of 200 KiB": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 204800 + b"\r\nContent-Length: 2\r\n\r\nok",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 201 + b"\r\n",
    "100 for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "bad first chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_nonsense_is_a_bad_gateway_at_once(gateway: LiveGateway, answer: bytes) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(answer)
        side.wait_for_close()

    with upstream(script) as server, client(gateway.port) as raw, took(0, 2):
        gateway.route(route_to(server.port))
        response = raw.get()
        assert response.status == 502
        assert response.body == b'{"error_msg":"invalid response from upstream"}\n'
        assert gateway.ask(gateway.gateway.pool.open) == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nConte"], ids=["nothing", "half a head"])
@pytest.mark.parametrize("hard", [False, True], ids=["close", "reset"])
def test_a_connection_that_ends_before_the_head(gateway: LiveGateway, answer: bytes, hard: bool) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(answer)
        if hard:
            side.reset()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().status == 502
        # Never more requests than the client sent: a fresh connection is no excuse to repeat.
        assert server.received.count(b"GET") == 1
        assert raw.get().status == 502


CUT = {
    "J05 length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    "J06 chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "J27 bad later chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
}


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
def test_a_body_cut_in_the_middle_is_never_completed(gateway: LiveGateway, answer: bytes, version: bytes) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        head, _, body = answer.partition(b"\r\n\r\n")
        side.send(head + b"\r\n\r\n")
        side.send(body)

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/%b\r\nHost: t\r\n\r\n" % version)
        try:
            response = raw.response()
        except EOFError:
            return
        assert response.status == 502 or not response.complete


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_body_until_close_that_ends_in_a_reset(gateway: LiveGateway, version: bytes) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
        seen.wait(10)
        side.reset()

    seen = threading.Event()
    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"GET / HTTP/%b\r\nHost: t\r\n\r\n" % version)
        raw.wait_for(b"some")
        seen.set()
        assert not raw.response().complete


def test_timeouts_are_kept_to_the_tenth(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, timeouts=Timeouts(connect=5, send=5, read=0.3)))
        for _ in range(2):
            with took(0.25, 0.4):
                assert raw.get().status == 504


def test_a_shorter_read_timeout_holds_on_a_connection_that_was_idle(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(ok())
        side.wait_for_close()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, timeouts=Timeouts(read=60)))
        assert raw.get().status == 200
        gateway.route(route_to(server.port, timeouts=Timeouts(read=0.2)))
        with took(0.15, 0.3):
            assert raw.get().status == 504


def test_the_read_timeout_is_between_two_reads(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        for _ in range(4):
            time.sleep(0.15)
            side.send(b"x")
        side.wait_for_close()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, timeouts=Timeouts(read=0.3)))
        with took(0.85, 1.1):
            response = raw.get()
        assert (response.body, response.complete) == (b"xxxx", False)


def test_an_address_that_never_answers(gateway: LiveGateway) -> None:
    # A listener whose queue is full drops what comes: the connection is never made.
    with socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        gateway.route(route_to(address[1], timeouts=Timeouts(connect=0.3, send=5, read=5)))
        with client(gateway.port) as raw, took(0.25, 0.4):
            assert raw.get().status == 504
        for one in waiting:
            one.close()


def test_an_upstream_that_does_not_read(gateway: LiveGateway) -> None:
    def script(side: UpstreamSide) -> None:
        side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        side.head()
        time.sleep(1.5)

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port, timeouts=Timeouts(send=0.3)))
        raw.socket.setblocking(False)
        raw.send_what_fits(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n" + bytes(20_000_000))
        raw.socket.setblocking(True)
        raw.socket.settimeout(5)
        assert raw.response().status == 504


Script = Callable[[UpstreamSide], None]


def closing_after(answers: int) -> Script:
    def script(side: UpstreamSide) -> None:
        for _ in range(answers):
            if not side.head():
                return
            side.send(ok())

    return script


def test_a_pooled_connection_that_was_closed_meanwhile_costs_no_idempotent_request(gateway: LiveGateway) -> None:
    with upstream(closing_after(1)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        for _ in range(200):
            assert raw.get().status == 200


def test_a_pooled_connection_that_breaks_during_the_request(gateway: LiveGateway) -> None:
    """The upstream reads the second request and closes: a GET goes out again, a POST does not."""

    def script(side: UpstreamSide) -> None:
        if not side.head():
            return
        side.send(ok())
        side.head()

    with upstream(script) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().status == 200
        assert raw.get().status == 200
        assert server.received.count(b"GET") == 3
        raw.send(POST)
        assert raw.response().status == 502
        assert server.received.count(b"POST") == 1
        raw.send(b"DELETE / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab")
        assert raw.response().status == 200


def test_a_post_is_not_given_to_a_connection_that_has_ended(gateway: LiveGateway) -> None:
    with upstream(closing_after(1)) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        for _ in range(100):
            raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
            assert raw.response().status == 200
            # Closed, but perhaps not noticed by the loop.
            assert server.connections[-1].ended.wait(5)


def test_words_behind_the_answer_spoil_the_connection_only(gateway: LiveGateway) -> None:
    with upstream(answering(ok() + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        for _ in range(3):
            assert raw.get().body == b"ok"
        assert len(server.connections) == 3


def test_words_on_an_idle_connection_spoil_it(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().body == b"ok"
        server.connections[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        gateway.until(lambda it: it.pool.open() == 0)
        assert raw.get().body == b"ok"


def test_a_body_on_the_answer_to_head_spoils_the_connection_only(gateway: LiveGateway) -> None:
    with upstream(answering(ok(b"evil"))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        raw.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n")
        assert raw.response(to_head=True).status == 200
        assert raw.get().body == b"evil"
        assert len(server.connections) == 2


def test_hop_by_hop_fields_of_an_answer_stay_here(gateway: LiveGateway) -> None:
    fields = (b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Proxy-Authenticate: x", b"X-End: 1")
    with upstream(answering(ok(b"ok", *fields))) as server, client(gateway.port) as raw:
        gateway.route(route_to(server.port))
        assert raw.get().head == b"HTTP/1.1 200 OK\r\nX-End: 1\r\nContent-Length: 2\r\n\r\n"
