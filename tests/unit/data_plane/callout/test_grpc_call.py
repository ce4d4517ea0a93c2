"""One gRPC call as a transcript: what it asks of connections (`>`), and what the plugin is told."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.callout.grpc_call import GrpcCall
from data_plane.callout.grpc_message import frame
from data_plane.config.snapshot import Node, Picker, Upstream
from data_plane.h2.pool import H2Pool, H2Waiter
from data_plane.h2.upstream import UpstreamH2Connection
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import PendingCall
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.pairs import Pairs
from tests.support.chain import ManualLoop
from tests.support.exchange import Nodes

HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
FINE = ((b"grpc-status", b"0"),)
LIMIT = 100


class Stage:
    """The pool, its connections and the plugin, all of which only note what they are told."""

    def __init__(self, *nodes: str, unary: bool = True, picker: Picker | None = None, retries: int | None = None) -> None:
        self.loop = ManualLoop()
        self.said: list[str] = []
        self.unread = 0
        self.traps = False
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        pool, pending = cast(H2Pool, self), cast(PendingCall, self)
        message = b"ask" if unary else None
        upstream = Upstream("u", picker or Nodes(*nodes), retries=retries)
        self.call = GrpcCall(
            loop, pool, pending, upstream, lambda node: [(b":authority", node.authority)], message, LIMIT, self.failed
        )

    def take(self) -> list[str]:
        self.loop.advance()
        said, self.said = self.said, []
        return said

    def connect(self) -> list[str]:
        self.call.begin(0)
        self.take()
        self.call.h2_ready(cast(UpstreamH2Connection, self))
        return self.take()

    # --- H2Pool

    def ask(self, node: Node, seconds: float, waiter: H2Waiter) -> None:
        self.said.append(f"> ask {node.host}")

    # --- UpstreamH2Connection

    def open(self, listener: object, fields: list[tuple[bytes, bytes]]) -> int:
        self.said.append(f"> open {fields[0][1].decode()}")
        return 1

    def send(self, stream_id: int, data: bytes, eos: bool) -> None:
        self.said.append(f"> send {data[5:].decode()}{' eos' if eos else ''}")

    def unsent(self, stream_id: int) -> int:
        return self.unread

    def reset(self, stream_id: int) -> None:
        self.said.append("> reset")

    # --- PendingCall

    def tell(self, text: str) -> None:
        self.said.append(text)
        if self.traps:
            raise VmFailed("unreachable", "trap")

    def initial_metadata(self, fields: Pairs) -> None:
        self.tell(f"initial {len(fields)}")

    def message(self, data: bytes) -> None:
        self.tell(f"message {data.decode()}")

    def trailing_metadata(self, fields: Pairs) -> None:
        self.tell(f"trailing {len(fields)}")

    def answer(self, data: bytes) -> None:
        self.tell(f"answer {data.decode()}")

    def close(self, status: int, message: bytes) -> None:
        self.tell(f"close {status} {message.decode()}")

    def failed(self, failure: VmFailed) -> None:
        self.said.append(f"failed {failure.code}")


def test_nothing_happens_within_the_host_call() -> None:
    stage = Stage("a")
    stage.call.begin(0)
    assert stage.said == []
    assert stage.take() == ["> ask a"]


def test_a_unary_call() -> None:
    stage = Stage("a")
    assert stage.connect() == ["> open a", "> send ask eos"]
    stage.call.h2_headers(HEADERS, False)
    stage.call.h2_data(frame(b"yes")[:3])
    stage.call.h2_data(frame(b"yes")[3:])
    stage.call.h2_trailers(FINE)
    stage.call.h2_end()
    assert stage.take() == ["> reset", "answer yes"]


@pytest.mark.parametrize(
    ("data", "trailers", "told"),
    [
        (b"", FINE, "close 13 no message"),
        (frame(b"a") + b"\0\0", FINE, "close 13 an unfinished message"),
        (frame(b"a"), ((b"grpc-status", b"5"), (b"grpc-message", b"no")), "close 5 no"),
        (frame(b"a"), (), "close 2 no status"),
    ],
)
def test_a_unary_call_that_does_not_succeed(data: bytes, trailers: Pairs, told: str) -> None:
    stage = Stage("a")
    stage.connect()
    stage.call.h2_headers(HEADERS, False)
    stage.call.h2_data(data)
    stage.call.h2_trailers(trailers)
    stage.call.h2_end()
    stage.call.h2_end()
    assert stage.take() == ["> reset", told]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (frame(b"a") + frame(b"b"), "close 13 more than one message"),
        (b"\1\0\0\0\1", "close 13 a compressed message, which was not asked for"),
        (b"\0\0\0\0\xff", "close 8 a message of 255 bytes, more than the plugin holds"),
    ],
)
def test_what_a_server_may_not_send_ends_the_call(data: bytes, told: str) -> None:
    stage = Stage("a")
    stage.connect()
    stage.call.h2_headers(HEADERS, False)
    stage.call.h2_data(data)
    stage.call.h2_data(frame(b"more"))
    stage.call.h2_trailers(FINE)
    stage.call.h2_end()
    assert stage.take() == ["> reset", told]


def test_an_answer_that_is_not_grpcs() -> None:
    stage = Stage("a")
    stage.connect()
    stage.call.h2_headers(((b":status", b"403"),), False)
    assert stage.take() == ["> reset", "close 7 HTTP status 403"]


def test_a_stream_told_in_order() -> None:
    stage = Stage("a", unary=False)
    assert stage.connect() == ["> open a"]
    assert stage.call.send(b"one", False) is Status.OK
    stage.call.h2_headers(HEADERS, False)
    stage.call.h2_data(frame(b"1") + frame(b"2"))
    assert stage.call.send(b"two", True) is Status.OK
    assert stage.call.send(b"three", True) is Status.BAD_ARGUMENT
    stage.call.h2_trailers(FINE)
    stage.call.h2_end()
    assert stage.take() == [
        *("> send one", "initial 2", "message 1", "message 2", "> send two eos", "trailing 1", "> reset", "close 0 "),
    ]


def test_what_is_sent_before_there_is_a_connection_goes_out_with_it() -> None:
    stage = Stage("a", unary=False)
    stage.call.begin(0)
    stage.call.send(b"one", False)
    stage.call.close()
    stage.take()
    stage.call.h2_ready(cast(UpstreamH2Connection, stage))
    assert stage.take() == ["> open a", "> send one eos"]


def test_a_status_without_anything_before_it() -> None:
    stage = Stage("a", unary=False)
    stage.connect()
    stage.call.h2_headers((*HEADERS, (b"grpc-status", b"12")), True)
    stage.call.h2_end()
    assert stage.take() == ["trailing 3", "> reset", "close 12 "]


@pytest.mark.parametrize("connected", [False, True])
def test_more_than_the_server_takes(connected: bool) -> None:
    stage = Stage("a", unary=False)
    if connected:
        stage.connect()
        stage.unread = LIMIT + 1
    assert stage.call.send(b"x" * (1 if connected else LIMIT), False) is Status.OK
    assert stage.take()[-1] == "close 8 the server does not take what is sent"


# --- connections


def test_nodes_that_refuse_are_tried_once_each() -> None:
    stage = Stage("a", "b")
    stage.call.begin(0)
    assert stage.take() == ["> ask a"]
    stage.call.h2_failed("upstream_connect_failed")
    assert stage.take() == ["> ask b"]
    stage.call.h2_failed("upstream_connect_failed")
    assert stage.take() == ["close 14 cannot connect"]


def test_retries_limit_the_nodes_that_are_tried() -> None:
    stage = Stage("a", "b", retries=0)
    stage.call.begin(0)
    stage.call.h2_failed("upstream_connect_failed")
    assert stage.take()[-1] == "close 14 cannot connect"


@pytest.mark.parametrize("ending", ["cancelled", "lost", "refused"])
def test_a_call_is_in_flight_for_its_balancer_until_it_ends(ending: str) -> None:
    nodes = (Node("a", 80, 1, b"a"), Node("b", 80, 1, b"b"))
    picker = Balancer(nodes, lambda: 1.0, Balancing("least_conn"))
    stages = [Stage(picker=picker, retries=0) for _ in range(3)]
    asked = []
    for stage in stages:
        stage.call.begin(0)
        asked += stage.take()
    assert asked == ["> ask a", "> ask b", "> ask a"]
    if ending == "refused":
        stages[1].call.h2_failed("upstream_connect_failed")
    else:
        stages[1].call.h2_ready(cast(UpstreamH2Connection, stages[1]))
        if ending == "lost":
            stages[1].call.h2_lost("upstream_closed", False)
        else:
            stages[1].call.cancel()
    assert [picker.choose(b"", ()) for _ in range(2)] == [nodes[1], nodes[1]]


def test_no_node_and_a_node_that_takes_too_long() -> None:
    nobody = Stage()
    nobody.call.begin(0)
    assert nobody.take() == ["close 14 no node of the upstream may take traffic"]
    slow = Stage("a", "b")
    slow.call.begin(0)
    slow.take()
    slow.call.h2_failed("upstream_connect_timeout")
    assert slow.take() == ["close 14 connecting timed out"]


def test_a_unary_call_that_nobody_began_is_made_again_but_not_for_ever() -> None:
    stage = Stage("a")
    stage.connect()
    for _ in range(2):
        stage.call.h2_lost("upstream_closed", True)
        assert stage.take() == ["> ask a"]
        stage.call.h2_ready(cast(UpstreamH2Connection, stage))
        assert stage.take() == ["> open a", "> send ask eos"]
    stage.call.h2_lost("upstream_closed", True)
    assert stage.take() == ["close 14 reset"]


@pytest.mark.parametrize(("unary", "unprocessed"), [(True, False), (False, True), (False, False)])
def test_other_calls_are_not_repeated(unary: bool, unprocessed: bool) -> None:
    stage = Stage("a", unary=unary)
    stage.connect()
    stage.call.h2_lost("upstream_closed", unprocessed)
    assert stage.take() == ["close 14 reset"]


# --- ends


@pytest.mark.parametrize("connected", [False, True])
def test_too_late(connected: bool) -> None:
    stage = Stage("a")
    stage.call.begin(2)
    stage.take()
    if connected:
        stage.call.h2_ready(cast(UpstreamH2Connection, stage))
        stage.take()
    stage.loop.advance(2)
    assert stage.take() == [*(["> reset"] if connected else []), "close 4 timed out"]
    stage.call.h2_ready(cast(UpstreamH2Connection, stage))
    stage.call.h2_failed("upstream_connect_failed")
    assert stage.take() == []


def test_cancelled_is_silent_and_abandoned_is_told_later() -> None:
    cancelled, abandoned = Stage("a"), Stage("a")
    for stage in (cancelled, abandoned):
        stage.connect()
    cancelled.call.cancel()
    assert cancelled.take() == ["> reset"]
    abandoned.call.abandon()
    assert abandoned.said == ["> reset"]
    abandoned.call.abandon()
    assert abandoned.take() == ["> reset", "close 1 the stream has ended"]


def test_a_call_that_is_cancelled_before_it_began() -> None:
    stage = Stage("a")
    stage.call.begin(5)
    stage.call.cancel()
    assert stage.take() == []
    assert stage.loop.waiting == 0


def test_a_plugin_that_does_not_survive_hearing_of_it() -> None:
    stage = Stage("a")
    stage.connect()
    stage.traps = True
    stage.call.h2_lost("upstream_closed", False)
    assert stage.take() == ["close 14 reset", "failed unreachable"]
