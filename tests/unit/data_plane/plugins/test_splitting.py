"""A native plugin beside a Wasm plugin says which upstream a request takes."""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import NativeBinding, PluginBinding, Route, Timeouts
from data_plane.exchange.messages import RequestFields, RequestHead
from shared.plugin import Plugin, Request, Spec
from shared.plugin.program import Bound
from tests.support.chain import GET, Case, Worker
from tests.support.guest import Facts

UPSTREAM = object()


class Nothing(Spec):
    pass


class Steer(Plugin[Nothing]):
    name = "steer"
    priority = 0
    Config = Nothing

    def access(self, request: Request) -> None:
        request.set_upstream(UPSTREAM)


class Exchange(Facts):
    head = RequestHead(b"GET", b"/p", GET, RequestFields(b"", 1, b"h", b"h", b""))
    route = Route("1", "one", None, (), Timeouts())
    duration_ns = None
    declared_length = -1

    def __init__(self) -> None:
        self.upstreams: list[object] = []

    def use_upstream(self, upstream: object) -> None:
        self.upstreams.append(upstream)


class Mixed(Case):
    def __init__(self, worker: Worker, *bindings: NativeBinding | PluginBinding) -> None:
        self.journal = worker.journal
        self.replies = []
        self.has_left = self.is_cut = False
        self.exchange = self.facts = Exchange()
        self.chain = worker.runtime.open_chain(bindings, self, self.facts)


@pytest.mark.parametrize("priority", [1, -1])
def test_the_exchange_hears_of_it_before_the_request_is_sent(worker: Worker, priority: int) -> None:
    steer = NativeBinding(None, Bound.of(Steer(Nothing())), "route/1", 0)
    bound = worker.bind("a", "request_headers add 0 a 1")
    case = Mixed(worker, PluginBinding(bound.plugin, bound.configuration, bound.owner, priority), steer)
    assert any("> GET /p" in line for line in case.request())
    assert set(case.exchange.upstreams) == {UPSTREAM}
    case.finish()
