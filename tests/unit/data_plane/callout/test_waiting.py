"""Whose calls stop when a stream ends: only those that the stream was held back for."""

from __future__ import annotations

import pytest

from data_plane.tcp.chain import TcpChain, open_chain
from shared.proxy_wasm.abi import Direction
from tests.support.chain import Worker
from tests.support.guest import Facts
from tests.support.performer import Performer

ASK = "http_call auth 500 % % :method=GET :path=/ :authority=h"
OK = ((b":status", b"200"),)
PHASES = ["request_headers", "request_body", "response_headers", "response_body"]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("answer", "log"), [(0, []), (1, ["abandon"])])
def test_a_request(worker: Worker, performer: Performer, phase: str, answer: int, log: list[str]) -> None:
    case = worker.open(worker.bind("before"), worker.bind("a", f"{phase} {ASK}", f"{phase} return {answer}"))
    case.request(b"body")
    case.response(b"body")
    case.finish()
    assert len(performer.calls) == 1
    assert performer.log == log


def test_one_that_was_let_go_again(worker: Worker, performer: Performer) -> None:
    script = (f"request_headers {ASK}", f"request_headers {ASK}", "request_headers return 1")
    case = worker.open(worker.bind("a", *script, "http_call_response#1 effective 2", "http_call_response#1 continue 0"))
    case.request()
    performer.calls[0].respond(OK, b"", ())
    worker.loop.advance()
    case.response()
    case.finish()
    assert performer.log == []


def test_another_plugins_calls_are_its_own_affair(worker: Worker, performer: Performer) -> None:
    first = worker.bind("first", f"request_headers {ASK}")
    case = worker.open(first, worker.bind("second", "request_headers return 1"))
    case.request()
    case.finish()
    assert performer.log == []


class Session:
    """The session's side of a chain of a TCP connection."""

    def proceed(self) -> None: ...

    def forward(self, direction: Direction, data: bytes, eos: bool) -> None: ...

    def regulate(self, direction: Direction) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


@pytest.mark.parametrize("phase", ["new_connection", "downstream_data"])
@pytest.mark.parametrize(("answer", "log"), [(0, []), (1, ["abandon"])])
def test_a_tcp_connection(worker: Worker, performer: Performer, phase: str, answer: int, log: list[str]) -> None:
    binding = worker.bind("a", f"{phase} {ASK}", f"{phase} return {answer}")
    chain: TcpChain = open_chain(worker.runtime, (binding,), Session(), Facts())
    chain.new_connection()
    if phase == "downstream_data":
        chain.data(Direction.REQUEST, b"hello", False)
    chain.finish()
    assert len(performer.calls) == 1
    assert performer.log == log


def test_a_tcp_connection_goes_on_after_its_call(worker: Worker, performer: Performer) -> None:
    binding = worker.bind(
        *("a", f"new_connection {ASK}", "new_connection return 1", "downstream_data return 1"),
        *("http_call_response effective 2", "http_call_response continue 2"),
    )
    connected = []

    class Waiting(Session):
        def proceed(self) -> None:
            connected.append(True)

    chain: TcpChain = open_chain(worker.runtime, (binding,), Waiting(), Facts())
    chain.new_connection()
    assert connected == []
    performer.calls[0].respond(OK, b"", ())
    worker.loop.advance()
    assert connected == [True]
    chain.finish()
    assert performer.log == []
