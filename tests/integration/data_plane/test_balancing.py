"""Requests over several servers through real sockets: who gets them, and what a client sees of servers that fail."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.balance.hash_key import hash_key
from data_plane.config.snapshot import Node, PassHost, Route, Timeouts, Upstream
from shared.schema.balancing import BalancerType
from tests.integration.data_plane.test_bad_upstreams import closed_port
from tests.support.gateway import HOST, TIMEOUTS, LiveGateway, ScriptedUpstream, UpstreamSide, answering, ok, upstream
from tests.support.raw_http import client, took

TYPES: tuple[BalancerType, ...] = ("roundrobin", "chash", "least_conn", "ewma")
POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nab"
Script = Callable[[UpstreamSide], None]


def balanced(
    *ports: int,
    type: BalancerType = "roundrobin",
    timeouts: Timeouts = TIMEOUTS,
    retry_timeout: float = 0.0,
    pass_host: PassHost = "pass",
) -> Route:
    key = hash_key("header", "X-Key") if type == "chash" else None
    nodes = tuple(Node(HOST, port, 1, f"{HOST}:{port}".encode()) for port in ports)
    picker = Balancer(nodes, time.monotonic, Balancing(type, key, retry_timeout > 0))
    served = Upstream("test", picker, pass_host=pass_host, timeouts=timeouts, retry_timeout=retry_timeout)
    return Route("1", "test", served, (), timeouts)


def silent(side: UpstreamSide) -> None:
    side.head()
    side.wait_for_close()


def names(stack: ExitStack, count: int) -> list[ScriptedUpstream]:
    """Servers that answer with a letter each."""
    return [stack.enter_context(upstream(answering(ok(b"%c" % (97 + index))))) for index in range(count)]


@pytest.mark.parametrize("type", TYPES)
def test_one_of_three_servers_is_dead_and_no_request_fails(gateway: LiveGateway, type: BalancerType) -> None:
    with ExitStack() as stack:
        one, two = names(stack, 2)
        raw = stack.enter_context(client(gateway.port))
        gateway.route(balanced(one.port, closed_port(), two.port, type=type))
        for number in range(150):
            assert raw.get(b"/", b"X-Key: %d" % number).status == 200
            raw.send(POST)
            assert raw.response().status == 200


@pytest.mark.parametrize("type", TYPES)
def test_all_servers_are_dead(gateway: LiveGateway, type: BalancerType) -> None:
    gateway.route(balanced(closed_port(), closed_port(), type=type))
    with client(gateway.port) as raw, took(0, 1):
        assert raw.get().status == 502


@pytest.mark.parametrize("type", ["roundrobin", "least_conn"])
def test_a_server_that_says_nothing_is_passed_over_for_what_is_idempotent(gateway: LiveGateway, type: BalancerType) -> None:
    with upstream(silent) as one, upstream(answering(ok(b"two"))) as two, client(gateway.port) as raw:
        gateway.route(balanced(one.port, two.port, type=type, timeouts=Timeouts(connect=5, send=5, read=0.2), pass_host="node"))
        response = raw.get()
        assert (response.status, response.body) == (200, b"two")
        assert b"Host: 127.0.0.1:%d\r\n" % two.port in two.received
        raw.get()
        raw.send(POST)
        assert raw.response().status == 504
        assert (one.received + two.received).count(b"POST") == 1


def test_retries_end_with_their_time(gateway: LiveGateway) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(upstream(silent)) for _ in range(4)]
        raw = stack.enter_context(client(gateway.port))
        timeouts = Timeouts(connect=5, send=5, read=0.2)
        gateway.route(balanced(*(server.port for server in servers), timeouts=timeouts, retry_timeout=0.3))
        response = raw.get()
        assert (response.status, b"no time left" in response.body) == (502, True)
        assert sum(server.received.count(b"GET") for server in servers) == 2


def test_servers_that_close_when_they_please_cost_no_idempotent_request(gateway: LiveGateway) -> None:
    choose = random.Random(5)

    def fickle(side: UpstreamSide) -> None:
        for _ in range(choose.randrange(4)):
            if not side.head():
                return
            side.send(ok())
        if choose.random() < 0.5 and side.head() and choose.random() < 0.5:
            side.reset()

    with upstream(fickle) as one, upstream(answering(ok())) as two, client(gateway.port) as raw:
        gateway.route(balanced(one.port, two.port))
        assert [raw.get().status for _ in range(600)] == [200] * 600


def test_a_key_goes_to_one_server(gateway: LiveGateway) -> None:
    with ExitStack() as stack:
        servers = names(stack, 3)
        one, two = stack.enter_context(client(gateway.port)), stack.enter_context(client(gateway.port))
        ports = [server.port for server in servers]
        gateway.route(balanced(*ports, type="chash"))

        def owners() -> list[bytes]:
            return [one.get(b"/", b"X-Key: %d" % number).body for number in range(60)]

        before = owners()
        assert set(before) == {b"a", b"b", b"c"}
        assert [two.get(b"/", b"X-Key: %d" % number).body for number in range(60)] == before
        gateway.route(balanced(*ports[:2], type="chash"))
        after = owners()
        assert all(new == old for old, new in zip(before, after, strict=True) if old != b"c")


def test_a_server_with_more_to_do_gets_less(gateway: LiveGateway) -> None:
    go_on = threading.Event()

    def slow(side: UpstreamSide) -> None:
        while side.head():
            go_on.wait(10)
            side.send(ok(b"slow"))

    with ExitStack() as stack:
        one, two = stack.enter_context(upstream(slow)), stack.enter_context(upstream(answering(ok(b"fast"))))
        waiting, raw = stack.enter_context(client(gateway.port)), stack.enter_context(client(gateway.port))
        gateway.route(balanced(one.port, two.port, type="least_conn"))
        waiting.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        one.wait_for(b"\r\n\r\n")
        assert {raw.get().body for _ in range(20)} == {b"fast"}
        go_on.set()
        assert waiting.response().body == b"slow"
        assert {raw.get().body for _ in range(2)} == {b"fast", b"slow"}
