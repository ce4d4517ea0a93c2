"""The state machine of a TCP session, as transcripts: what it is told, and what it then commands."""

from __future__ import annotations

import pytest

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.balance.hash_key import hash_key
from data_plane.config.snapshot import Node
from data_plane.tcp.ports import CLIENT, UPSTREAM, Side
from data_plane.tcp.session import HIGH_WATER
from shared.proxy_wasm.abi import Direction
from shared.schema.balancing import BalancerType
from tests.support.session import TIMEOUTS, Stage

BALANCERS: tuple[BalancerType, ...] = ("roundrobin", "chash", "least_conn", "ewma")


def test_bytes_pass_and_the_last_end_closes_both() -> None:
    stage = Stage("a")
    assert stage.start() == ["connect a"]
    assert stage.connected() == []
    assert stage.data(CLIENT, b"question") == ["upstream < question"]
    assert stage.data(UPSTREAM, b"answer") == ["client < answer"]
    assert stage.eof(CLIENT) == ["upstream < eof"]
    assert stage.data(UPSTREAM, b"more") == ["client < more"]
    assert stage.eof(UPSTREAM) == ["client close", "upstream close"]
    assert (stage.patience, stage.over) == (-1, [stage.session])
    assert stage.session.received == [8, 10]


def test_the_upstream_may_end_first() -> None:
    stage = Stage("a").open()
    assert stage.eof(UPSTREAM) == ["client < eof"]
    assert stage.data(CLIENT, b"late") == ["upstream < late"]
    assert stage.eof(CLIENT) == ["client close", "upstream close"]


def test_what_comes_before_the_upstream_is_connected_is_kept_in_order() -> None:
    stage = Stage("a")
    assert stage.start(b"hello, ") == ["connect a"]
    assert stage.data(CLIENT, b"wor") == []
    assert stage.data(CLIENT, b"ld") == []
    assert stage.eof(CLIENT) == []
    assert stage.connected() == ["upstream < hello, world", "upstream < eof"]
    assert stage.eof(UPSTREAM) == ["client close", "upstream close"]


def test_a_client_is_not_read_when_it_sends_too_much_too_early() -> None:
    stage = Stage("a")
    stage.start()
    assert stage.data(CLIENT, b"x" * (HIGH_WATER - 1)) == []
    assert stage.data(CLIENT, b"y") == ["client pause"]
    assert stage.connected() == ["upstream < 65536", "client resume"]


def test_nodes_that_refuse_are_passed_over_once_each() -> None:
    stage = Stage("a", "b", "c")
    assert stage.start(b"x") == ["connect a"]
    assert stage.tell(stage.session.connect_failed) == ["connect b"]
    assert stage.tell(stage.session.connect_failed) == ["connect c"]
    assert stage.tell(stage.session.connect_failed) == ["client reset"]
    assert (stage.counters.upstream_errors, stage.counters.upstream_retries, stage.counters.aborted) == (3, 2, 1)


def test_retries_limit_the_nodes_that_are_tried() -> None:
    stage = Stage("a", "b", "c", retries=1)
    stage.start()
    assert stage.tell(stage.session.connect_failed) == ["connect b"]
    assert stage.tell(stage.session.connect_failed) == ["client reset"]


def balancer(type: BalancerType) -> Balancer:
    nodes = tuple(Node(name, 80, 1, name.encode()) for name in "abc")
    key = hash_key("vars", "remote_addr") if type == "chash" else None
    return Balancer(nodes, lambda: 1.0, Balancing(type, key))


def test_sessions_of_one_client_go_to_one_server() -> None:
    assert len({Stage(picker=balancer("chash")).start()[0] for _ in range(5)}) == 1


def test_open_sessions_count_for_the_next() -> None:
    picker = balancer("least_conn")
    stages = [Stage(picker=picker) for _ in range(6)]
    assert [stage.start()[0] for stage in stages] == ["connect a", "connect b", "connect c"] * 2
    stages[4].connected()
    stages[4].eof(CLIENT)
    stages[4].eof(UPSTREAM)
    stages[1].session.lost(CLIENT, is_reset=True)
    assert [Stage(picker=picker).start()[0] for _ in range(2)] == ["connect b", "connect b"]


@pytest.mark.parametrize("type", BALANCERS)
def test_every_balancer_passes_over_servers_that_refuse(type: BalancerType) -> None:
    stage = Stage(picker=balancer(type))
    tried = stage.start()
    for _ in range(3):
        tried += stage.tell(stage.session.connect_failed)
    assert sorted(tried) == ["client reset", "connect a", "connect b", "connect c"]


def test_the_next_node_gets_what_the_client_has_sent() -> None:
    stage = Stage("a", "b")
    stage.start(b"x")
    assert stage.tell(stage.session.connect_failed) == ["connect b"]
    assert stage.connected() == ["upstream < x"]


@pytest.mark.parametrize(("nodes", "configured"), [((), True), (("a",), False)])
def test_without_an_upstream_the_client_is_reset(nodes: tuple[str, ...], configured: bool) -> None:
    assert Stage(*nodes, configured=configured).start(b"x") == ["client reset"]


@pytest.mark.parametrize("blocked", [CLIENT, UPSTREAM])
def test_a_side_that_does_not_read_stops_the_other(blocked: Side) -> None:
    stage = Stage("a").open()
    source = "upstream" if blocked == CLIENT else "client"
    assert stage.tell(stage.session.blocked, blocked) == [f"{source} pause"]
    assert stage.patience == TIMEOUTS.send
    assert stage.tell(stage.session.writable, blocked) == [f"{source} resume"]
    assert stage.patience == 9


def test_a_side_that_has_ended_is_neither_paused_nor_resumed() -> None:
    stage = Stage("a").open()
    stage.eof(CLIENT)
    assert stage.tell(stage.session.blocked, UPSTREAM) == []
    assert stage.tell(stage.session.writable, UPSTREAM) == []


@pytest.mark.parametrize("side", [CLIENT, UPSTREAM])
def test_a_reset_is_passed_on(side: Side) -> None:
    stage = Stage("a").open()
    assert stage.tell(stage.session.lost, side, True) == ["client reset", "upstream reset"]
    assert stage.counters.resets == 1


def test_a_lost_connection_that_was_no_reset_ends_the_session() -> None:
    stage = Stage("a").open()
    assert stage.tell(stage.session.lost, UPSTREAM, False) == ["client close", "upstream close"]


def test_a_client_that_leaves_while_it_is_connected() -> None:
    stage = Stage("a")
    stage.start()
    assert stage.tell(stage.session.lost, CLIENT, True) == ["cancel", "client reset"]
    assert stage.connected() == ["upstream reset"]
    assert stage.tell(stage.session.connect_failed) == []


def test_the_connect_timeout_alone_counts_while_connecting() -> None:
    stage = Stage("a")
    stage.start()
    assert stage.patience == 0
    stage.data(CLIENT, b"x")
    assert stage.patience == 0
    stage.connected()
    assert stage.patience == 9


def test_time_is_up() -> None:
    stage = Stage("a").open()
    assert stage.tell(stage.session.expired) == ["client close", "upstream close"]
    assert stage.counters.timeouts == 1


def test_a_stop_cuts() -> None:
    stage = Stage("a").open()
    assert stage.tell(stage.session.stop) == ["client reset", "upstream reset"]


def test_nothing_happens_after_the_end() -> None:
    stage = Stage("a").open()
    stage.tell(stage.session.stop)
    session = stage.session
    for event in (session.expired, session.stop, session.close, session.abort, session.connect_failed):
        assert stage.tell(event) == []
    for side in (CLIENT, UPSTREAM):
        assert stage.data(side, b"x") == []
        assert stage.eof(side) == []
        assert stage.tell(session.lost, side, True) == []
        assert stage.tell(session.blocked, side) == []
        assert stage.tell(session.writable, side) == []
        assert stage.tell(session.forward, side, b"x", True) == []
    assert len(stage.over) == 1


# --- with plugins


def test_plugins_see_everything_in_order() -> None:
    stage = Stage("a", plugins=True)
    assert stage.start(b"x") == ["chain: new connection", "connect a", "chain: down x"]
    assert stage.connected() == ["upstream < x"]
    assert stage.data(UPSTREAM, b"y") == ["chain: up y", "client < y"]
    assert stage.eof(UPSTREAM) == ["chain: up  eos", "client < eof"]
    assert stage.eof(CLIENT) == [
        *("chain: down  eos", "client close", "upstream close"),
        *("chain: upstream closed by remote", "chain: client closed by local", "chain: finish"),
    ]


def test_no_upstream_is_asked_for_a_connection_that_plugins_hold() -> None:
    stage = Stage("a", plugins=True, holds=("connection",))
    assert stage.start() == ["chain: new connection"]
    assert stage.patience == 9
    assert stage.tell(stage.session.proceed) == ["connect a"]


@pytest.mark.parametrize("direction", [CLIENT, UPSTREAM])
def test_a_plugin_that_holds_as_much_as_it_may_stops_reading(direction: Direction) -> None:
    stage = Stage("a", plugins=True, holds=("data",)).open()
    source = "upstream" if direction else "client"
    stage.chain.full.add(direction)
    assert stage.data(direction, b"x")[1:] == [f"{source} pause"]
    stage.chain.full.clear()
    assert stage.tell(stage.session.regulate, direction) == [f"{source} resume"]


def test_a_plugin_closes() -> None:
    stage = Stage("a", plugins=True).open()
    assert stage.tell(stage.session.close) == [
        *("client close", "upstream close"),
        *("chain: client closed by local", "chain: upstream closed by local", "chain: finish"),
    ]


def test_a_plugin_fails_before_there_is_an_upstream() -> None:
    stage = Stage("a", plugins=True, holds=("connection",))
    stage.start()
    assert stage.tell(stage.session.abort) == ["client reset", "chain: client closed by local", "chain: finish"]
    assert stage.counters.aborted == 1


def test_an_end_that_a_plugin_holds_waits_for_it() -> None:
    stage = Stage("a", plugins=True, holds=("data",)).open()
    stage.data(UPSTREAM, b"last words")
    assert stage.eof(UPSTREAM) == ["chain: up  eos"]
    assert stage.tell(stage.session.forward, UPSTREAM, b"last words", True) == ["client < last words", "client < eof"]


def test_what_plugins_may_ask() -> None:
    assert Stage("a").session.upstream_address is None
    stage = Stage("a", plugins=True)
    facts = stage.session
    stage.start(b"abc")
    assert facts.upstream_address == ("a", 80)
    assert (facts.client_address, facts.local_address, facts.connection_id) == (("192.0.2.7", 50000), ("10.0.0.1", 9100), 3)
    assert (facts.request_bytes, facts.response_bytes, facts.route_name, facts.protocol) == (3, 0, "one", "")
    assert (facts.requested_server_name, facts.start_time_ns) == (b"db.test", 1_000)
