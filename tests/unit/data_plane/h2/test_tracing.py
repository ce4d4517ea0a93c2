"""Requests over HTTP/2 with the trace key: one stream is recorded, the others of its connection are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from h2.errors import ErrorCodes

from data_plane.h2.tracing import TracingH2ClientConnection
from data_plane.http.tracing import Tracer
from data_plane.observe.traces import TraceStore
from data_plane.plugins.runtime import WasmRuntime
from tests.support.chain import ManualLoop
from tests.support.h2_client import H2Wire, request

KEY = "sixteen characters"


class Store:
    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def put(self, _: str, document: dict[str, Any]) -> None:
        self.kept.append(document)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def wire(store: Store) -> H2Wire:
    # Of a runtime that runs no plugin.
    runtime = SimpleNamespace(engine=None, loop=ManualLoop(), log_level=0, sharing=None, calls=None, foreign=None, node=None)
    tracer = Tracer(KEY, cast(WasmRuntime, runtime), cast(TraceStore, store), "http://control/")
    return H2Wire("a", make=lambda gateway: TracingH2ClientConnection(gateway, tracer))


def ask(wire: H2Wire, key: str) -> int:
    stream = wire.send(request(b"GET", b"/p", (b"x-waspgate-trace", key.encode())))
    wire.take()
    assert b"trace" not in wire.connected(stream)[0].encode().lower()
    return stream


def test_a_request_with_the_key(wire: H2Wire, store: Store) -> None:
    other, traced = ask(wire, "another key"), ask(wire, KEY)
    assert "trace" not in wire.answer(other, b"x", length=1)[1]
    said = wire.answer(traced, b"x", length=1)
    assert said[1].startswith(f"{traced}: 200 ")
    assert "x-waspgate-trace=http://control/" in said[1]
    [trace] = store.kept
    assert (trace["path"], trace["status"], trace["route"]) == ("/p", 200, "1")


def test_one_that_its_client_resets(wire: H2Wire, store: Store) -> None:
    stream = ask(wire, KEY)
    wire.client.reset_stream(stream, ErrorCodes.CANCEL)
    wire.flush()
    [trace] = store.kept
    assert trace["status"] is None
