"""Transcripts of a WebSocket handshake: what goes where, with and without plugins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.config.snapshot import Node, Scheme, Snapshot, Upstream
from data_plane.exchange.messages import RequestFields, RequestHead, ResponseHead
from data_plane.exchange.ports import UpstreamPort
from data_plane.exchange.upgrade import Upgrading, open_upgrade
from data_plane.exchange.watched import Watched
from data_plane.plugins.interface import LocalReply
from tests.support.exchange import TIMEOUTS, Always, Client, Conn, Stage

OFFER = "GET /p HTTP/1.1|Host: t|Connection: Upgrade|Upgrade: websocket||"
SWITCH = "HTTP/1.1 101 X|Connection: Upgrade|Upgrade: websocket||"


class Switching(Client):
    other_end: UpstreamPort

    def tunnel(self, data: bytes, upstream: UpstreamPort, idle_seconds: float) -> None:
        self.other_end = upstream
        self._stage.say("client.tunnel", data, f"idle {idle_seconds:g}")


def offer(stage: Stage, *, enabled: bool = True, scheme: Scheme = "http") -> list[str]:
    route = stage.snapshot.router.match(b"", b"", b"")
    assert route is not None
    assert route.upstream is not None
    route = replace(route, upstream=replace(route.upstream, scheme=scheme))
    stage.snapshot = Snapshot(1, Always(replace(route, enable_websocket=enabled)), {})
    stage.client = client = Switching(stage)
    fields = RequestFields(b"", 1, b"t", b"t", b"\r\nHost: t\r\n")
    head = RequestHead(b"GET", b"/p", b"GET /p HTTP/1.1\r\nHost: t\r\n", fields)
    stage.exchange = open_upgrade(stage, client, head)
    stage.exchange.start(b"", True)
    return stage.take()


def switch(stage: Stage, early: bytes = b"") -> list[str]:
    assert stage.exchange.upgrades()
    stage.exchange.upstream_switched(ResponseHead(101, b"HTTP/1.1 101 X\r\n", 0, b"", True), early)
    return stage.take()


def end(stage: Stage) -> list[str]:
    assert isinstance(stage.exchange, Upgrading)
    stage.exchange.tunnel_ended()
    # The connection is lost as well; that is no second end.
    stage.exchange.client_gone()
    return stage.take()


def test_a_handshake() -> None:
    stage = Stage(idle=("c",))
    assert offer(stage) == [f"c.begin {OFFER} timeout 3"]
    assert switch(stage, b"early") == [f"client.tunnel {SWITCH}early idle 3"]
    assert stage.counters.responses[101] == 1
    assert end(stage) == []
    assert stage.counters.client_aborts == 0


@pytest.mark.parametrize("undone", [False, True])
def test_a_tunnel_is_in_flight_until_it_ends(undone: bool) -> None:
    node = Node("a", 80, 1, b"a")
    picker = Balancer((node,), lambda: 1.0, Balancing("least_conn"))
    replies = {"response head": LocalReply(403)} if undone else {}
    stage = Stage(served=Upstream("u", picker, timeouts=TIMEOUTS), idle=("c",), plugins=undone, replies=replies)
    load = picker._load(node)
    offer(stage)
    assert isinstance(stage.exchange.conn, Watched)
    assert load.in_flight == 1
    stage.serving.upstream_switched(ResponseHead(101, b"HTTP/1.1 101 X\r\n", 0, b"", True), b"")
    if undone:
        assert "c.close" in stage.take()
    else:
        client = stage.client
        assert isinstance(client, Switching)
        assert isinstance(client.other_end, Conn)
        assert load.in_flight == 1
        end(stage)
    assert load.in_flight == 0


def test_plugins_see_the_heads_and_the_end_of_the_tunnel() -> None:
    stage = Stage(idle=("c",), plugins=True)
    assert offer(stage) == ["chain: request head eos", f"c.begin {OFFER} timeout 3"]
    assert switch(stage) == ["chain: response head 101 eos", f"client.tunnel {SWITCH} idle 3"]
    assert end(stage) == ["chain.finish"]


def test_where_it_is_not_enabled_nothing_is_offered() -> None:
    stage = Stage(idle=("c",))
    assert offer(stage, enabled=False) == ["c.begin GET /p HTTP/1.1|Host: t|| timeout 3"]
    assert not stage.exchange.upgrades()


def test_an_upstream_of_grpc_cannot_switch() -> None:
    stage = Stage(idle=("c",))
    assert offer(stage, scheme="grpc") == ["c.begin GET /p HTTP/1.1|Host: t|| timeout 3"]


@pytest.mark.parametrize("plugins", [False, True])
def test_an_upstream_that_declines(plugins: bool) -> None:
    stage = Stage(idle=("c",), plugins=plugins)
    offer(stage)
    said = stage.response(b"no", length=2, status=403)
    assert said[-1 - plugins] == "client.finish HTTP/1.1 403 X|Content-Length: 2||no keep"
    assert stage.exchange.upgrades() is False


def test_a_plugin_answers_the_offer() -> None:
    stage = Stage(idle=("c",), plugins=True, replies={"request head": LocalReply(403)})
    said = offer(stage)
    assert "client.finish HTTP/1.1 403 Forbidden|Content-Length: 0|| keep" in said
    assert not [line for line in said if line.startswith("c.")]


def test_a_plugin_answers_in_the_place_of_the_switch() -> None:
    stage = Stage(idle=("c",), plugins=True, replies={"response head": LocalReply(403)})
    offer(stage)
    said = switch(stage, b"early")
    assert said[:2] == ["chain: response head 101 eos", "c.close"]
    assert said[-2:] == ["client.finish HTTP/1.1 403 Forbidden|Content-Length: 0|| keep", "chain.finish"]


def test_a_plugin_makes_another_response_of_the_switch() -> None:
    stage = Stage(idle=("c",), plugins=True, holds=("response",))
    offer(stage)
    assert switch(stage, b"early") == ["chain: response head 101 eos"]
    stage.chain.sink.forward_response_head(b"HTTP/1.1 404 X\r\n")
    assert stage.take() == ["c.close", "client.finish HTTP/1.1 404 X|Content-Length: 0|| keep", "chain.finish"]


def test_a_plugin_lets_the_switch_go_on_later() -> None:
    stage = Stage(idle=("c",), plugins=True, holds=("response",))
    offer(stage)
    switch(stage, b"early")
    stage.chain.sink.forward_response_head(b"HTTP/1.1 101 X\r\nA: b\r\n")
    assert stage.take() == [f"client.tunnel {SWITCH.replace('X|', 'X|A: b|')}early idle 3"]


def test_a_plugin_that_holds_the_switch_for_ever() -> None:
    stage = Stage(idle=("c",), plugins=True, holds=("response",))
    offer(stage)
    switch(stage)
    stage.exchange.held_too_long()
    said = stage.take()
    assert said[0] == "c.close"
    assert said[1].startswith("client.finish HTTP/1.1 504 ")


def test_a_route_that_a_plugin_chooses_decides_anew() -> None:
    stage = Stage(idle=("c",), plugins=True, holds=("request",))
    assert offer(stage) == ["chain: request head eos"]
    route = stage.snapshot.router.match(b"", b"", b"")
    assert route is not None
    stage.snapshot = Snapshot(2, Always(replace(route, enable_websocket=False)), {})
    stage.chain.sink.find_route(b"GET /p HTTP/1.1\r\nHost: t\r\n")
    stage.chain.sink.forward_request_head(b"GET /p HTTP/1.1\r\nHost: t\r\n")
    assert stage.take() == ["find_route", "c.begin GET /p HTTP/1.1|Host: t|| timeout 3"]


def test_a_client_that_leaves_before_the_switch() -> None:
    stage = Stage(idle=("c",))
    offer(stage)
    stage.exchange.client_gone()
    assert stage.take() == ["c.close"]
    assert stage.counters.client_aborts == 1
