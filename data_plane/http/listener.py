"""What the connections of one worker share, and the socket that they come from.

The law: a connection that was let in is either in `clients` or gone; draining lets none in, closes those that stay idle, and
waits for the rest.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Protocol, cast

from data_plane.config.snapshot import Route, Snapshot, Timeouts
from data_plane.exchange.opening import find_route
from data_plane.http import limits
from data_plane.http.downstream import ClientConnection
from data_plane.http.head import HeadError, parse_request
from data_plane.http.outbox import Outbox
from data_plane.http.pool import Pool
from data_plane.http.trust import NOBODY, Trust
from data_plane.observe.counters import Counters

if TYPE_CHECKING:
    from data_plane.exchange.ports import ClientPort
    from data_plane.plugins.interface import PluginRuntime

BACKLOG = 4096
# How often idle clients are looked for; one may stay so much longer than its keep-alive time.
SWEEP_SECONDS = 5.0
# How often a worker that drains looks whether it is done: for 10,000 clients that takes a millisecond.
DRAINING_LOOK_SECONDS = 0.02


class _NothingYet:
    """The router of a worker that has not been configured: every request meets a problem, none is unknown."""

    _route = Route("", "", None, (), Timeouts(), problem="no_snapshot")

    def match(self, method: bytes, host: bytes, path: bytes) -> Route:
        return self._route


NOTHING_YET = Snapshot(0, _NothingYet(), {})


class Client(Protocol):
    """A client's connection, whatever it speaks: what the gateway asks of it."""

    @property
    def busy(self) -> int:
        """Exchanges that have not ended."""

    @property
    def stays(self) -> bool:
        """While draining: busy, or so shortly idle that a request may be on its way."""

    def sweep(self, idle_sweeps: int, held_sweeps: int) -> None: ...

    def drain(self) -> None: ...

    def stop(self) -> None: ...


class Gateway:
    """The exchange's `Serving`, and the register of clients."""

    __slots__ = (
        "_connection_ids",
        "_sweeper",
        "clients",
        "counters",
        "draining",
        "limit",
        "loop",
        "outbox",
        "pool",
        "runtime",
        "snapshot",
        "trust",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: PluginRuntime, trust: Trust = NOBODY) -> None:
        self.loop = loop
        self.runtime = runtime
        self.trust = trust
        self.snapshot = NOTHING_YET
        self.draining = False
        self.outbox = Outbox(loop)
        self.pool = Pool(loop, self.outbox)
        self.counters = Counters()
        self.clients: set[Client] = set()
        self.limit = connection_limit()
        self._connection_ids = count(1)
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)

    def __repr__(self) -> str:
        return f"<Gateway clients={len(self.clients)} draining={self.draining} {self.pool!r}>"

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        try:
            request = parse_request(head)
        except HeadError:
            return None
        return find_route(self.snapshot, client, request)

    def admit(self, client: Client) -> int:
        """The connection's id, or 0 when there are too many."""
        if len(self.clients) >= self.limit:
            return 0
        self.clients.add(client)
        self.counters.connections += 1
        return next(self._connection_ids)

    def next_connection_id(self) -> int:
        """For a connection of another kind."""
        return next(self._connection_ids)

    def dismiss(self, client: Client) -> None:
        self.clients.discard(client)

    def _sweep(self) -> None:
        """Close the idle: looking at all of them now and then costs less than a deadline moved by every request."""
        for client in tuple(self.clients):
            client.sweep(int(limits.KEEPALIVE_SECONDS / SWEEP_SECONDS), int(limits.HELD_SECONDS / SWEEP_SECONDS))
        self._sweeper = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def busy(self) -> int:
        """Exchanges that have not ended."""
        return sum(client.busy for client in self.clients)

    async def drain(self, grace: float) -> int:
        """Let what is in flight end within so many seconds; returns how many exchanges were cut."""
        self.draining = True
        self._sweeper.cancel()
        until = self.loop.time() + grace
        for client in tuple(self.clients):
            client.drain()
        # Who is about to ask, on a connection that is new or kept alive, is answered once more and told to come elsewhere.
        while self.clients and self.loop.time() < until:
            await self._wait_while(lambda: any(client.stays for client in self.clients), until)
            # Those who have heard all may read it; one that was in the middle of a head may be asking now.
            leaving = self.loop.time() + limits.DRAIN_IDLE_SECONDS
            await self._wait_while(lambda: bool(self.clients) and not self.busy(), min(leaving, until))
            if not self.busy():
                break
        cut = self.busy()
        await self.pool.close()
        for client in tuple(self.clients):
            client.stop()
        return cut

    async def _wait_while(self, condition: Callable[[], bool], until: float) -> None:
        while condition() and self.loop.time() < until:  # noqa: ASYNC110 - in a worker's last seconds; no client need tell
            await asyncio.sleep(DRAINING_LOOK_SECONDS)


def connection_limit() -> int:
    """Clients that one worker takes: each may need a second file for its upstream connection."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.CONNECTIONS
    return max(1, min(limits.CONNECTIONS, (soft - limits.RESERVED_FILES) // 2))


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound and listening, to be shared with the other workers of the port; raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def serve(
    gateway: Gateway, listener: socket.socket, connection: Callable[[Gateway], object] = ClientConnection
) -> asyncio.Server:
    """What `connection` makes is an asyncio.Protocol by its methods."""
    return await gateway.loop.create_server(lambda: cast(asyncio.Protocol, connection(gateway)), sock=listener, backlog=BACKLOG)
