"""A gateway on a loop in a thread of its own, so that tests speak to it with plain blocking sockets, byte for byte.

The law: everything listens on loopback at a free port; everything that was started is stopped by the context manager.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import uvloop

from data_plane.config.snapshot import (
    Binding,
    KeepalivePool,
    Node,
    PassHost,
    Picker,
    PluginBinding,
    Route,
    Scheme,
    Snapshot,
    Timeouts,
    Upstream,
)
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway, listening_socket, serve
from data_plane.plugins.interface import ChainSink, PluginChain, PluginStream, StreamInfo, Told
from shared.plugin import Reply

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
HOST = "127.0.0.1"
TIMEOUTS = Timeouts(connect=5, send=5, read=5)
KEEPALIVE = KeepalivePool()


class OneRoute:
    """A router for one route; `path_prefix` others are unknown."""

    def __init__(self, route: Route, path_prefix: bytes = b"/") -> None:
        self.route = route
        self._prefix = path_prefix

    def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
        return self.route if path.startswith(self._prefix) or path == b"*" else None


class Turns(Picker):
    """A picker that goes round."""

    def __init__(self, *ports: int) -> None:
        self._nodes = [node(port) for port in ports]
        self._next = 0

    def pick(self) -> Node | None:
        if not self._nodes:
            return None
        self._next += 1
        return self._nodes[(self._next - 1) % len(self._nodes)]


class NoPlugins:
    """A runtime whose chains a test gives it."""

    def __init__(self) -> None:
        self.make: Callable[[ChainSink], PluginChain] | None = None
        # Of native plugins.
        self.failures: list[BaseException] = []

    def open_chain(self, bindings: tuple[Binding, ...], sink: ChainSink, info: StreamInfo) -> PluginChain:
        assert self.make is not None
        return self.make(sink)

    def open_stream(self, bindings: tuple[Binding, ...], info: StreamInfo) -> PluginStream | None:
        """Always a chain."""
        return None

    def take_over(self, stream: PluginStream, sink: ChainSink) -> PluginChain:
        raise AssertionError("there is no stream without a chain here")

    def finish(self, stream: PluginStream) -> None:
        raise AssertionError("there is no stream without a chain here")

    def wait(self, answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        raise AssertionError("no native plugin waits here")

    def native_failed(self, plugin: str, error: BaseException) -> None:
        self.failures.append(error)


def node(port: int) -> Node:
    return Node(HOST, port, 1, f"{HOST}:{port}".encode())


def route_to(
    *ports: int,
    timeouts: Timeouts = TIMEOUTS,
    keepalive: KeepalivePool = KEEPALIVE,
    pass_host: PassHost = "pass",
    upstream_host: bytes = b"",
    bindings: tuple[Binding, ...] = (),
    problem: str | None = None,
    scheme: Scheme = "http",
) -> Route:
    upstream = None
    if problem is None:
        upstream = Upstream(
            "test",
            Turns(*ports),
            scheme=scheme,
            pass_host=pass_host,
            upstream_host=upstream_host,
            timeouts=timeouts,
            keepalive_pool=keepalive,
        )
    return Route("1", "test", upstream, bindings, timeouts, problem=problem)


class LiveGateway:
    """Its methods may be called from the test's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Callable[[Gateway], asyncio.Protocol]) -> None:
        self._loop = loop
        self._connection = connection
        self.runtime = NoPlugins()
        self.port = 0
        self.gateway: Gateway

    async def start(self) -> None:
        self.gateway = Gateway(self._loop, self.runtime)
        listener = listening_socket(HOST, 0)
        self.port = listener.getsockname()[1]
        self._server = await serve(self.gateway, listener, self._connection)

    async def stop(self) -> None:
        self._server.close()
        await self.gateway.drain(0)
        # Aborted transports tell their protocols in the loop's next rounds.
        for _ in range(10):
            await asyncio.sleep(0)
        assert not self.gateway.clients

    def route(self, route: Route, path_prefix: bytes = b"/", upstreams: Mapping[str, Upstream] | None = None) -> None:
        """`upstreams` by the names that plugins call them."""
        named = upstreams or {}
        plugins = {binding.name: binding.plugin for binding in route.bindings if isinstance(binding, PluginBinding)}
        snapshot = Snapshot(1, OneRoute(route, path_prefix), {route.id: route}, plugins=plugins, find_upstream=named.get)
        self.ask(lambda: setattr(self.gateway, "snapshot", snapshot))

    def ask(self, question: Callable[[], T]) -> T:
        """The answer, computed in the loop's thread."""
        future: Future[T] = Future()

        def answer() -> None:
            try:
                future.set_result(question())
            except BaseException as error:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(answer)
        return future.result(10)

    def until(self, condition: Callable[[Gateway], object], seconds: float = 5.0) -> float:
        """Wait for a condition of the gateway; how long it took."""
        began = time.monotonic()
        while not self.ask(lambda: condition(self.gateway)):
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {self.gateway!r}"
            time.sleep(0.005)
        return time.monotonic() - began


@contextmanager
def live_gateway(
    loop_name: str = "uvloop",
    connection: Callable[[Gateway], asyncio.Protocol] = ClientConnection,  # type: ignore[assignment]  # by its methods
) -> Iterator[LiveGateway]:
    loop = LOOPS[loop_name]()
    live = LiveGateway(loop, connection)
    with running(loop, live):
        yield live


@contextmanager
def running(loop: asyncio.AbstractEventLoop, live: LiveGateway) -> Iterator[None]:
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    loop.run_until_complete(live.start())
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(live.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert not errors, errors


class ScriptedUpstream:
    """Accepts connections and plays a script on each, in a thread of its own; keeps what it received."""

    def __init__(self, script: Callable[[UpstreamSide], None]) -> None:
        self._script = script
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[UpstreamSide] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="upstream")
        self._acceptor.start()

    @property
    def received(self) -> bytes:
        """Everything, over all connections in their order."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    def wait_for(self, data: bytes, seconds: float = 5.0) -> None:
        """Until this has arrived."""
        deadline = time.monotonic() + seconds
        while data not in self.received:
            assert time.monotonic() < deadline, f"{data!r} did not arrive, but {self.received[-200:]!r}"
            time.sleep(0.002)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.settimeout(10)
            side = UpstreamSide(accepted)
            self.connections.append(side)
            thread = threading.Thread(target=self._play, args=(side,))
            self._threads.append(thread)
            thread.start()

    def _play(self, side: UpstreamSide) -> None:
        try:
            self._script(side)
        except OSError as error:
            side.error = error
        finally:
            side.socket.close()
            side.ended.set()

    def close(self) -> None:
        # A blocked accept is woken by shutting the listener down.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for side in self.connections:
            side.hang_up()
        self._acceptor.join(10)
        for thread in self._threads:
            thread.join(10)


class UpstreamSide:
    """One connection, as the upstream's script sees it."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.received = bytearray()
        self.requests: list[tuple[bytes, bytes, bytes]] = []
        self.error: OSError | None = None
        self.closed_by_peer_at: float | None = None
        self.ended = threading.Event()
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> bytes:
        """The next request's head; empty when the peer has closed."""
        while b"\r\n\r\n" not in self._unread:
            if not self._more():
                return b""
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def body(self, size: int) -> bytes:
        while len(self._unread) < size:
            if not self._more():
                break
        body, self._unread = self._unread[:size], self._unread[size:]
        return body

    def until(self, end: bytes) -> bytes:
        while end not in self._unread:
            if not self._more():
                return self._unread
        found, _, self._unread = self._unread.partition(end)
        return found + end

    def wait_for_close(self) -> None:
        try:
            while self._more():
                pass
        except ConnectionError:
            self.closed_by_peer_at = time.monotonic()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def hang_up(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _more(self) -> bool:
        data = self.socket.recv(1 << 18)
        if not data:
            self.closed_by_peer_at = time.monotonic()
        self.received += data
        self._unread += data
        return bool(data)


@contextmanager
def upstream(script: Callable[[UpstreamSide], None]) -> Iterator[ScriptedUpstream]:
    server = ScriptedUpstream(script)
    try:
        yield server
    finally:
        server.close()


def answering(*answers: bytes) -> Callable[[UpstreamSide], None]:
    """A script: for each request head (without body) the next answer, the last one again and again."""

    def script(side: UpstreamSide) -> None:
        number = 0
        while side.head():
            side.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def ok(body: bytes = b"ok", *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)
