"""The transcripts of requests that one node did not answer: when another is tried, which, how often, and who hears of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import pytest

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.balance.hash_key import hash_key
from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.config.snapshot import Node, Upstream
from data_plane.exchange.requester import Requester
from data_plane.exchange.watched import Watched
from tests.support.exchange import TIMEOUTS, Conn, Stage

GET = "GET /p HTTP/1.1|Host: t||"
LOST = "upstream_closed"
BALANCERS: tuple[Literal["roundrobin", "chash", "least_conn", "ewma"], ...] = ("roundrobin", "chash", "least_conn", "ewma")


class Clock:
    now = 10.0

    def __call__(self) -> float:
        return self.now


class Health:
    """Passive checks of nodes that are always well."""

    reports = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def unhealthy(self, nodes: tuple[Node, ...]) -> Collection[Node]:
        return ()

    def watch(self, changed: object) -> None:
        return None

    def report(self, node: Node, outcome: int) -> None:
        self.heard.append((node.host, outcome))


def nodes(*names: str) -> tuple[Node, ...]:
    return tuple(Node(name, 80, 1, name.encode()) for name in names)


def upstream(
    *names: str,
    retries: int | None = None,
    retry_timeout: float = 0.0,
    clock: Clock | None = None,
    health: Health | None = None,
    type: Literal["roundrobin", "chash", "least_conn", "ewma"] = "roundrobin",
    pass_host: Literal["pass", "node"] = "pass",
) -> Upstream:
    key = hash_key("vars", "uri") if type == "chash" else None
    picker = Balancer(nodes(*names), clock or Clock(), Balancing(type, key, deadline=retry_timeout > 0), health)
    return Upstream("u", picker, pass_host=pass_host, timeouts=TIMEOUTS, retries=retries, retry_timeout=retry_timeout)


def stage(served: Upstream, *idle: str) -> Stage:
    return Stage(served=served, idle=idle)


def refuse(stage: Stage, kind: str = "upstream_connect_failed") -> list[str]:
    """What the pool was asked to connect for is told that it cannot be."""
    asking(stage).upstream_failed(kind)
    return stage.take()


def asking(stage: Stage) -> Requester:
    found = stage.pool.asking
    assert found is not None
    return found


def statuses(said: list[str]) -> list[str]:
    return [line.split()[2] for line in said if line.startswith("client.finish")]


def test_every_node_is_tried_once_unless_retries_say_less() -> None:
    for retries, attempts in ((None, 3), (0, 1), (1, 2), (2, 3), (9, 3)):
        it = stage(upstream("a", "b", "c", retries=retries))
        said = it.request()
        while said[-1].startswith("connect"):
            said += refuse(it)
        assert [line for line in said if line.startswith("connect")] == ["connect a", "connect b", "connect c"][:attempts]
        assert statuses(said) == ["502"]


def test_the_only_node_is_tried_again_when_retries_are_asked_for() -> None:
    it = stage(upstream("a", retries=2))
    said = it.request() + refuse(it) + refuse(it) + refuse(it)
    assert said[:3] == ["connect a"] * 3
    assert statuses(said) == ["502"]


def test_no_retry_begins_after_the_time_for_them() -> None:
    clock = Clock()
    it = stage(upstream("a", "b", "c", "d", retry_timeout=1.5, clock=clock))
    assert it.request() == ["connect a"]
    clock.now += 1
    assert refuse(it) == ["connect b"]
    clock.now += 0.6
    said = refuse(it, "upstream_connect_timeout")
    assert "no time left to try another upstream node" in said[0]
    assert statuses(said) == ["502"]


@pytest.mark.parametrize("kind", [LOST, "upstream_read_timeout", "upstream_send_timeout"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
def test_an_idempotent_request_that_was_sent_goes_to_another_node(kind: str, method: bytes) -> None:
    it = stage(upstream("a", "b"))
    it.request(method)
    it.connected()
    it.exchange.upstream_lost(kind)
    assert it.take() == ["connect b"]
    assert it.connected("b")[0].startswith("b.begin " + method.decode())
    assert it.response()[-1].startswith("client.finish HTTP/1.1 200")
    assert (it.counters.upstream_errors, it.counters.upstream_retries) == (1, 1)


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [
        (b"POST", b"", LOST),
        (b"PATCH", b"", LOST),
        (b"LOCK", b"", LOST),
        (b"POST", b"", "upstream_read_timeout"),
        (b"PUT", b"body", LOST),
        (b"GET", b"", "upstream_bad_response"),
    ],
)
@pytest.mark.parametrize("idle", [(), ("a",)], ids=["new", "reused"])
def test_what_is_never_sent_twice(method: bytes, body: bytes, kind: str, idle: tuple[str, ...]) -> None:
    it = stage(upstream("a", "b"), *idle)
    it.request(method, body, length=len(body))
    if not idle:
        it.connected()
    it.exchange.upstream_lost(kind)
    assert statuses(it.take()) == ["504" if "timeout" in kind else "502"]


def test_whatever_was_not_sent_goes_to_another_node() -> None:
    it = stage(upstream("a", "b"))
    it.request(b"POST", b"body", length=4)
    assert refuse(it, "upstream_connect_timeout") == ["connect b"]
    assert it.connected("b") == ["b.begin POST /p HTTP/1.1|Host: t|Content-Length: 4||body timeout 3"]


def test_nothing_is_sent_twice_after_a_byte_of_an_answer() -> None:
    for reused in (True, False):
        it = stage(upstream("a", "b"))
        it.request()
        conn = Conn(it, "a", reused=reused)
        conn.heard = True
        it.exchange.upstream_ready(conn)
        it.exchange.upstream_lost(LOST)
        assert statuses(it.take()) == ["502"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_no_status_is_a_reason_to_try_another_node(status: int) -> None:
    it = stage(upstream("a", "b"), "a")
    it.request()
    assert it.response(status=status)[-1].startswith(f"client.finish HTTP/1.1 {status}")


def test_an_idle_connection_that_had_ended_is_no_failure_of_its_node() -> None:
    it = stage(upstream("a", "b", retries=0), "a")
    it.request()
    it.exchange.upstream_lost(LOST)
    assert it.take() == ["connect a"]
    it.connected("new")
    it.exchange.upstream_lost(LOST)
    assert statuses(it.take()) == ["502"]


def test_another_node_may_have_an_idle_connection() -> None:
    it = stage(upstream("a", "b"))
    it.request()
    it.pool.idle = [Conn(it, "b", reused=True)]
    assert refuse(it) == [f"b.begin {GET} timeout 3"]
    it.exchange.upstream_lost(LOST)
    assert it.take() == ["connect b"]


@pytest.mark.parametrize("body", [b"", b"body"])
def test_each_node_is_asked_by_its_own_name(body: bytes) -> None:
    it = stage(upstream("a", "b", pass_host="node"))
    it.request(b"PUT", body, length=len(body))
    refuse(it)
    assert it.connected("b")[0].startswith("b.begin PUT /p HTTP/1.1|Host: b|")


@pytest.mark.parametrize("type", BALANCERS)
def test_every_balancer_tries_every_node_once(type: Literal["roundrobin", "chash", "least_conn", "ewma"]) -> None:
    it = stage(upstream("a", "b", "c", type=type))
    said = it.request()
    while said[-1].startswith("connect"):
        said += refuse(it)
    assert sorted(said[:-1]) == ["connect a", "connect b", "connect c"]
    assert statuses(said) == ["502"]


def test_all_nodes_without_weight_are_no_nodes() -> None:
    for type in BALANCERS:
        assert statuses(stage(upstream(type=type)).request()) == ["503"]


# Who hears of attempts.


def watched(*names: str, health: Health, idle: tuple[str, ...] = ()) -> Stage:
    return stage(upstream(*names, health=health), *idle)


def test_an_answer_is_reported_with_its_status() -> None:
    health = Health()
    it = watched("a", health=health)
    it.request()
    asking(it).upstream_ready(Conn(it, "a", reused=False))
    assert it.take() == [f"a.begin {GET} timeout 3"]
    conn = it.exchange.conn
    assert isinstance(conn, Watched)
    assert it.response(status=500)[0] == "a.release"
    # The connection tells the attempt, and that the exchange.
    it.request()
    asking(it).upstream_ready(Conn(it, "a", reused=False))
    it.take()
    it.through(500)
    assert health.heard == [("a", 500)]
    assert it.take()[0] == "a.release"


def test_failures_are_reported_and_ended_idle_connections_are_not() -> None:
    health = Health()
    it = watched("a", "b", "c", health=health, idle=("a",))
    it.request()
    it.lose(LOST)
    assert it.take() == ["connect a"]
    assert refuse(it) == ["connect b"]
    assert refuse(it, "upstream_connect_timeout") == ["connect c"]
    asking(it).upstream_ready(Conn(it, "c", reused=False))
    it.lose("upstream_read_timeout")
    assert health.heard == [("a", TCP_FAILURE), ("b", TIMEOUT), ("c", TIMEOUT)]
    assert statuses(it.take()) == ["504"]


def test_what_is_in_flight_ends_with_the_request_however_it_ends() -> None:
    served = upstream("a", type="least_conn")
    picker = served.picker
    assert isinstance(picker, Balancer)
    load = picker._load(nodes("a")[0])

    def in_flight(it: Stage, before: int = 1) -> Stage:
        it.request()
        assert load.in_flight == before
        return it

    it = in_flight(stage(served, "a"))
    it.through(200)
    assert load.in_flight == 0
    it = in_flight(stage(served, "a"))
    it.exchange.client_gone()
    assert load.in_flight == 0
    it = in_flight(stage(served))
    it.exchange.client_gone()
    # What was being opened for it is let go when it comes.
    asking(it).upstream_ready(Conn(it, "late", reused=False))
    assert (load.in_flight, it.take()[-1]) == (0, "late.release")
    it = in_flight(stage(served, "a"))
    it.lose("upstream_bad_response")
    assert load.in_flight == 0


def test_the_one_between_forwards_all_that_a_connection_tells_and_is_told() -> None:
    events = {name for name in vars(Requester) if name.startswith(("upstream_", "keeps_", "upgrades", "send_"))}
    assert events <= vars(Watched).keys()
