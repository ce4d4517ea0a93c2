"""A worker's last seconds, seen from inside: who is closed, who may finish, who is cut."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from data_plane.http import limits
from tests.support.gateway import LiveGateway, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import client


def drain(gateway: LiveGateway, grace: float) -> Future[int]:
    return asyncio.run_coroutine_threadsafe(gateway.gateway.drain(grace), gateway.gateway.loop)


def test_the_idle_are_closed_and_the_busy_may_finish(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 0.1)

    def script(side: UpstreamSide) -> None:
        while side.head():
            side.send(ok(b"first"))
            side.head()
            side.until(b"go on")

    with upstream(script) as server, client(gateway.port) as idle, client(gateway.port) as busy:
        gateway.route(route_to(server.port))
        assert idle.get().body == b"first"
        busy.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n")
        gateway.until(lambda it: it.busy() == 1)
        drained = drain(gateway, 10)
        assert idle.closes_within(2)
        assert not drained.done()
        busy.send(b"go on")
        server.wait_for(b"go on")
        server.connections[-1].send(ok(b"second"))
        response = busy.response()
        assert (response.body, response.field(b"connection")) == (b"second", b"close")
        assert busy.closes_within(2)
        assert drained.result(5) == 0


def test_a_client_that_was_not_told_may_ask_once_more(gateway: LiveGateway) -> None:
    go_on = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir")
        go_on.wait(10)
        side.send(b"st!")
        side.head()
        side.send(ok(b"second"))

    with upstream(script) as server, client(gateway.port) as busy:
        gateway.route(route_to(server.port))
        busy.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        busy.wait_for(b"fir")
        drained = drain(gateway, 10)
        gateway.until(lambda it: it.draining)
        go_on.set()
        first = busy.response()
        assert (first.body, first.field(b"connection")) == (b"first!", None)
        second = busy.get()
        assert (second.body, second.field(b"connection")) == (b"second", b"close")
        assert drained.result(5) == 0


def test_who_was_told_late_has_time_to_ask_as_well(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer began before the drain, and ended when the idle had nearly been closed."""
    go_on = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir")
        go_on.wait(10)
        side.send(b"st!")
        side.head()
        side.send(ok(b"second"))

    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 0.2)
    with upstream(script) as server, client(gateway.port) as idle, client(gateway.port) as busy:
        gateway.route(route_to(server.port))
        gateway.until(lambda it: len(it.clients) == 2)
        busy.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        busy.wait_for(b"fir")
        drained = drain(gateway, 10)
        gateway.until(lambda it: it.draining)
        monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 30)
        go_on.set()
        assert busy.response().body == b"first!"
        # By now all who were idle when the drain began are gone.
        assert idle.closes_within(2)
        with pytest.raises(TimeoutError):
            drained.result(0.3)
        second = busy.get()
        assert (second.body, second.field(b"connection")) == (b"second", b"close")
        monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 0)
        assert drained.result(5) == 0


def test_what_does_not_end_is_cut(gateway: LiveGateway) -> None:
    with upstream(lambda side: side.wait_for_close()) as server, client(gateway.port) as busy:
        gateway.route(route_to(server.port))
        busy.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        gateway.until(lambda it: it.busy() == 1)
        assert drain(gateway, 0.2).result(5) == 1
        assert busy.rest() == b""


def test_a_connection_that_is_new_may_ask_once(gateway: LiveGateway) -> None:
    with upstream(answering(ok())) as server, client(gateway.port) as fresh:
        gateway.route(route_to(server.port))
        gateway.until(lambda it: len(it.clients) == 1)
        drained = drain(gateway, 10)
        gateway.until(lambda it: it.draining)
        asked = fresh.get()
        assert (asked.status, asked.field(b"connection")) == (200, b"close")
        assert drained.result(5) == 0


def test_nothing_to_wait_for(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DRAIN_IDLE_SECONDS", 0.1)
    with client(gateway.port) as raw:
        raw.send(b"GET / HT")
        gateway.until(lambda it: len(it.clients) == 1)
        assert drain(gateway, 10).result(2) == 0
        assert raw.rest() == b""
