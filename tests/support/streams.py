"""A worker's TCP side on a loop in a thread of its own, and small servers to proxy to; tests speak with blocking sockets.

The law: everything listens on loopback at a free port; everything that was started is stopped by its context manager.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from data_plane.config.snapshot import NO_SSLS, PluginBinding, Scheme, Snapshot, SslTable, StreamRoute, Timeouts, Upstream
from data_plane.http.listener import NOTHING_YET, Gateway, listening_socket
from data_plane.plugins.link import LinkSlot
from data_plane.routing.stream_router import StreamConditions, StreamEntry, StreamRouter
from data_plane.tcp.connection import ClientConnection
from data_plane.tcp.link import TcpLink
from data_plane.tcp.listener import StreamGateway, serve_streams
from data_plane.tls.listener import ANY, TlsGateway, serve_tls
from data_plane.upstream_tls.client_tls import ClientTls
from data_plane.upstream_tls.contexts import ClientContexts
from shared.proxy_wasm.failures import VmFailed
from tests.support.gateway import HOST, LOOPS, NoPlugins, Turns

T = TypeVar("T")

TIMEOUTS = Timeouts(connect=5, send=5, read=5)
RESET = b"\1\0\0\0\0\0\0\0"


class NoChains:
    """A runtime for routes without plugins."""

    def slots_of(self, bindings: tuple[PluginBinding, ...]) -> Sequence[LinkSlot]:
        raise AssertionError("there are no plugins here")

    def stream_failed(self, link: TcpLink, failure: VmFailed) -> None: ...

    def stream_ended(self, link: TcpLink) -> None: ...


def upstream_of(
    *ports: int, timeouts: Timeouts = TIMEOUTS, idle: float = 30.0, tls: bool = False, verify: bool = False
) -> Upstream:
    scheme: Scheme = "tls" if tls else "tcp"
    secured = ClientTls(verify) if tls else None
    return Upstream("test", Turns(*ports), scheme, timeouts=timeouts, stream_idle=idle, tls=secured)


def entry(upstream: Upstream | None, *, id: str = "1", conditions: StreamConditions | None = None) -> StreamEntry[StreamRoute]:
    route = StreamRoute(id, f"stream {id}", upstream, problem=None if upstream else "upstream_missing")
    return StreamEntry(id, conditions or StreamConditions(), route)


def streams_snapshot(*entries: StreamEntry[StreamRoute]) -> Snapshot:
    routes = {item.id: item.target for item in entries}
    return Snapshot(1, NOTHING_YET.router, {}, stream_router=StreamRouter[StreamRoute](entries), stream_routes=routes)


class LiveStreams:
    """Its methods may be called from the test's thread. `port` is plain, `tls_port` looks for a server name, and TLS ends at
    `end_port`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.port = self.tls_port = self.end_port = 0
        self.streams: StreamGateway

    async def start(self) -> None:
        self._gateway = Gateway(self._loop, NoPlugins())
        self.streams = StreamGateway(self._gateway, NoChains())
        listeners = [listening_socket(HOST, 0) for _ in range(3)]
        self.port, self.tls_port, self.end_port = (listener.getsockname()[1] for listener in listeners)
        self._servers = [
            await serve_streams(self.streams, item, peeks) for item, peeks in zip(listeners[:2], (False, True), strict=True)
        ]
        self._tls = TlsGateway(self._gateway, {ANY: lambda _: ClientConnection(self.streams, peeks=False)})
        self._servers.append(await serve_tls(self._tls, listeners[2]))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._tls.close()
        await self._gateway.drain(0)
        await self.streams.drain(0)
        # Aborted transports tell their protocols in the loop's next rounds.
        for _ in range(1000):
            if not self.streams.connections:
                break
            await asyncio.sleep(0.001)
        assert not self.streams.connections
        assert not self.streams.busy()

    def serve(self, *entries: StreamEntry[StreamRoute], ssls: SslTable = NO_SSLS) -> None:
        snapshot = replace(streams_snapshot(*entries), ssls=ssls)
        self.ask(lambda: setattr(self._gateway, "snapshot", snapshot))

    def trust(self, authorities: Path) -> None:
        """Of servers over TLS."""
        self.ask(lambda: setattr(self._gateway.pool, "contexts", ClientContexts(str(authorities))))

    def connect(self, port: int = 0) -> socket.socket:
        client = socket.create_connection((HOST, port or self.port), 5)
        client.settimeout(5)
        return client

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

    def until(self, condition: Callable[[StreamGateway], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.ask(lambda: condition(self.streams)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.streams!r} {self.streams.counters!r}"
            time.sleep(0.005)

    def drain(self, grace: float) -> Future[int]:
        return asyncio.run_coroutine_threadsafe(self.streams.drain(grace), self._loop)


@contextmanager
def live_streams(loop_name: str = "uvloop") -> Iterator[LiveStreams]:
    loop = LOOPS[loop_name]()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    live = LiveStreams(loop)
    loop.run_until_complete(live.start())
    thread = threading.Thread(target=loop.run_forever, name="streams")
    thread.start()
    try:
        yield live
    finally:
        asyncio.run_coroutine_threadsafe(live.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert not errors, errors


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accepts connections and serves each in a thread; its port. A connection that breaks ends its thread."""
    listener = socket.create_server((HOST, 0))
    threads: list[threading.Thread] = []
    accepted: list[socket.socket] = []

    def run(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            accepted.append(connection)
            threads.append(threading.Thread(target=run, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, name="server")
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for connection in accepted:
            hang_up(connection)
        for thread in threads:
            thread.join(10)


def hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def echo(connection: socket.socket) -> None:
    """Sends back what comes; ends when the peer does."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    """To the end."""
    found = bytearray()
    while data := connection.recv(1 << 18):
        found += data
    return bytes(found)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(size - len(found))
        assert data, f"ended after {bytes(found)!r}"
        found += data
    return bytes(found)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def refused_port() -> int:
    """Where nobody listens."""
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port
