"""Requests through the exchange of a route, without sockets: what they cost is what the gateway computes for each.

The law: ports that do nothing, so two routes differ in their plugins only; costs are CPU time of this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast

from data_plane.config.snapshot import Node, Route, Snapshot, Timeouts, Upstream
from data_plane.exchange.exchange import Exchange
from data_plane.exchange.messages import RequestHead, ResponseHead
from data_plane.exchange.opening import open_exchange
from data_plane.exchange.ports import ClientPort
from data_plane.exchange.requester import Requester
from data_plane.exchange.sending import DONE
from data_plane.http.forwarded import Forwarding
from data_plane.http.head import parse_request
from data_plane.observe.counters import Counters as Numbers
from data_plane.plugins.waiting import NativeHost
from shared.limits.rows import Rows
from shared.proxy_wasm.tls_properties import TlsFacts
from tests.support.config import Config
from tests.support.native import Consumers, enlist
from tests.support.plugin_host import RecordingHost

CLIENT = ("10.0.0.1", 50_000)
BODY = bytes(100)
RESPONSE = ResponseHead(
    200,
    b"HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/json\r\n",
    len(BODY),
    b"Content-Length: %d\r\n" % len(BODY),
    True,
)


class Host(RecordingHost):
    """What plugins want to do beside requests is not done."""

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        work.close()


class Conn:
    reused = True
    heard = False

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None: ...

    def send(self, data: bytes) -> None: ...

    def await_response(self, read_timeout: float) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def release(self) -> None: ...

    def close(self) -> None: ...


class Pool:
    def __init__(self) -> None:
        self._conn = Conn()

    def take(self, node: Node, checked: bool) -> Conn:
        return self._conn

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Requester) -> None: ...


class Client:
    client_address = CLIENT
    local_address = ("10.0.0.2", 80)
    connection_id = 1
    tls: TlsFacts | None = None

    def send(self, data: bytes) -> None: ...

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def finish(self, data: bytes, keep_alive: bool) -> None: ...

    def cut(self, hard: bool) -> None: ...

    def unix_time_ns(self) -> int:
        return time.time_ns()


class Router:
    def __init__(self, route: Route) -> None:
        self._route = route

    def match(self, method: bytes, host: bytes, path: bytes) -> Route:
        return self._route


class Serving:
    """All that an exchange asks of its worker."""

    draining = False

    def __init__(self, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        self.snapshot = Snapshot(1, Router(route), {route.id: route})
        self.counters = Numbers()
        self.pool = Pool()
        self.runtime = NativeHost(loop)

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        return None


def request_head(*fields: str) -> RequestHead:
    lines = ("GET /item?id=1 HTTP/1.1", "Host: api.example", "User-Agent: bench/1.0", "Accept: */*", *fields)
    forwarded = Forwarding(CLIENT[0], 80, "http").lines
    return parse_request("".join(f"{line}\r\n" for line in lines).encode(), forwarded=forwarded)


def route_with(plugins: Mapping[str, Any], counters: Rows, consumers: Consumers) -> Route:
    """As a worker compiles it."""
    host = Host(counters=counters)
    enlist(host, consumers)
    config = Config(host)
    config.put("routes", "1", {"uri": "/*", "plugins": plugins, "upstream": {"nodes": {"127.0.0.1:1980": 1}}})
    route = config.route("1")
    assert not config.compiler.problems, config.compiler.problems
    return route


@dataclass(slots=True)
class Driver:
    """One request after another through one route."""

    name: str
    serving: Serving
    head: RequestHead

    def once(self) -> Exchange:
        exchange = open_exchange(cast("Any", self.serving), Client(), self.head)
        exchange.start(b"", True)
        if exchange.state != DONE:
            exchange.upstream_response(RESPONSE, BODY, True)
        return exchange

    def check(self) -> None:
        """Raises RuntimeError when the route's requests do not come to their end, or fail."""
        statuses = self.serving.counters.responses
        before = statuses[500] + statuses[503]
        if self.once().state != DONE or statuses[500] + statuses[503] != before:
            raise RuntimeError(f"{self.name}: its requests fail")

    def seconds(self, times: int, clock: Callable[[], float] = time.process_time) -> float:
        """CPU seconds of so many requests."""
        once = self.once
        began = clock()
        for _ in range(times):
            once()
        return clock() - began
