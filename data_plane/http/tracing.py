"""Requests that an operator wants to look into: the ones that carry the trace key.

The law: a worker without a trace key has nothing of this: its connections are of another class. The key is compared in constant
time; a request with a wrong one is served like any other, and nobody is told. The field itself goes to no upstream (head.py). A
trace that cannot be kept costs the request nothing but its link.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Any

import structlog

from data_plane.exchange.opening import find_route, open_exchange
from data_plane.http.downstream import ClientConnection
from data_plane.http.reading import WAIT
from data_plane.observe.traces import TraceStore, new_id
from data_plane.plugins.traced import TracedRuntime
from shared.proxy_wasm.trace.text import as_json, lines

if TYPE_CHECKING:
    from data_plane.config.snapshot import Route, Snapshot
    from data_plane.exchange.messages import RequestHead
    from data_plane.exchange.ports import ClientPort, PoolPort, Serving, UpstreamPort
    from data_plane.http.listener import Gateway
    from data_plane.observe.counters import Counters
    from data_plane.plugins.runtime import WasmRuntime

log = structlog.get_logger(__name__)

_FINAL = re.compile(rb"HTTP/1\.1 (?:[2-5]|101)")


class Tracer:
    """What the tracing connections of one worker share. `link` is where a trace is read, without its id."""

    def __init__(self, key: str, runtime: WasmRuntime, store: TraceStore, link: str) -> None:
        self._key = key.encode()
        self.runtime = runtime
        self.store = store
        self.link = link

    def admits(self, key: bytes | None) -> bool:
        return key is not None and hmac.compare_digest(key, self._key)


class TracedServing:
    """The gateway as an exchange sees it (Serving), with the plugins of one request."""

    def __init__(self, gateway: Gateway, runtime: TracedRuntime) -> None:
        self._gateway = gateway
        self.snapshot: Snapshot = gateway.snapshot
        self.counters: Counters = gateway.counters
        self.pool: PoolPort = gateway.pool
        self.runtime = runtime

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        return self._gateway.find_route(head, client)

    @property
    def draining(self) -> bool:
        return self._gateway.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._gateway.draining = value


class Trace:
    """One traced request, until it has ended and was kept."""

    def __init__(self, tracer: Tracer, gateway: Gateway, head: RequestHead, client: ClientPort) -> None:
        self.id = new_id()
        self.runtime = TracedRuntime(tracer.runtime)
        self.serving = TracedServing(gateway, self.runtime)
        self.line = f"X-Waspgate-Trace: {tracer.link}{self.id}\r\n".encode()
        self.response = b""
        self._store = tracer.store
        self._loop = gateway.loop
        self._began = gateway.loop.time()
        route = find_route(self.serving.snapshot, client, head)
        self._request: dict[str, Any] = {
            "id": self.id,
            "time_ns": client.unix_time_ns(),
            "client": client.client_address[0],
            "method": head.method.decode("latin-1"),
            "path": head.path.decode("utf-8", "backslashreplace"),
            "host": head.fields.host.decode("utf-8", "backslashreplace"),
            "route": None if route is None else route.id,
        }

    def marked(self, data: bytes) -> bytes:
        """What is sent, with the link in the head of the final response."""
        if self.response or _FINAL.match(data) is None:
            return data
        start, _, rest = data.partition(b"\r\n")
        self.response = start
        return b"".join((start, b"\r\n", self.line, rest))

    def end(self) -> None:
        """Once the exchange has finished with its plugins."""
        runtime, seconds = self.runtime, self._loop.time() - self._began
        runtime.end()
        document = self._request | {
            "seconds": round(seconds, 6),
            "status": int(self.response[9:12]) if self.response else None,
            "entries_dropped": runtime.dropped,
            "transcript": [as_json(entry) for entry in runtime.entries],
            "text": list(lines(runtime.entries, times=True)),
        }
        try:
            self._store.put(self.id, document)
        except OSError as error:
            log.error("a trace cannot be kept", reason=str(error))


class TracingConnection(ClientConnection):
    """A client's connection in a worker that has a trace key."""

    __slots__ = ("_trace", "_tracer")

    def __init__(self, gateway: Gateway, tracer: Tracer) -> None:
        super().__init__(gateway)
        self._tracer = tracer
        self._trace: Trace | None = None

    def _begin(self, request: RequestHead, body: bytes) -> None:
        if not self._tracer.admits(getattr(request.fields, "trace", None)):
            super()._begin(request, body)
            return
        self._gateway.counters.requests += 1
        exchange = self._exchange = open_exchange(self._follow(request), self, request)
        exchange.start(body, self._state == WAIT)

    def _open_upgrade(self, serving: Serving, request: RequestHead) -> None:
        admitted = self._tracer.admits(getattr(request.fields, "trace", None))
        super()._open_upgrade(self._follow(request) if admitted else serving, request)

    def _follow(self, request: RequestHead) -> Serving:
        trace = self._trace = Trace(self._tracer, self._gateway, request, self)
        return trace.serving

    def send(self, data: bytes) -> None:
        super().send(data if self._trace is None else self._trace.marked(data))

    def finish(self, data: bytes, keep_alive: bool) -> None:
        trace = self._trace
        if trace is not None:
            data = trace.marked(data)
            self._let_go()
        super().finish(data, keep_alive)

    def tunnel(self, data: bytes, upstream: UpstreamPort, idle_seconds: float) -> None:
        super().tunnel(data if self._trace is None else self._trace.marked(data), upstream, idle_seconds)

    def cut(self, hard: bool) -> None:
        self._let_go()
        super().cut(hard)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._let_go()

    def eof_received(self) -> None:
        super().eof_received()
        self._let_go()

    def _let_go(self) -> None:
        """The exchange tells its plugins of the end after it told us."""
        trace, self._trace = self._trace, None
        if trace is not None:
            self._loop.call_soon(trace.end)
