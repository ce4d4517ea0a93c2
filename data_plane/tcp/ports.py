"""What a session commands: its two connections, its timer, and the worker around it.

The law: a command returns at once. `Side` numbers the two connections, and with them the direction of the bytes that come from
each; it is the ABI's Direction: downstream is CLIENT, upstream is UPSTREAM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.proxy_wasm.abi import Direction

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_plane.config.snapshot import Node, PluginBinding, Upstream
    from data_plane.observe.stream_counters import StreamCounters
    from data_plane.tcp.session import Session
    from shared.proxy_wasm.properties import StreamFacts
    from shared.proxy_wasm.tcp import Peer
    from shared.proxy_wasm.tls_properties import TlsFacts

Side = Direction
CLIENT, UPSTREAM = Direction.REQUEST, Direction.RESPONSE


class SidePort(Protocol):
    """One of the two connections. It begins with reading; nothing is told after `close` or `reset`."""

    def send(self, data: bytes) -> None: ...

    def send_eof(self) -> None:
        """Behind what was sent: the other side will send no more."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """Behind what was sent."""

    def reset(self) -> None:
        """At once, and so that the peer sees that this was no end."""


class Timer(Protocol):
    def set(self, seconds: float) -> None:
        """Whoever made it is told so many seconds from now, instead of when it was due before."""

    def clear(self) -> None: ...

    def close(self) -> None: ...


class Attempt(Protocol):
    """A connection that is being made."""

    def cancel(self) -> object: ...


class ClientPort(SidePort, Protocol):
    """The client's connection, and who it is. `server_name` is empty on a listener that does not look for it, `tls`
    is there where TLS ends here."""

    client_address: tuple[str, int]
    local_address: tuple[str, int]
    connection_id: int
    server_name: bytes
    tls: TlsFacts | None


class SessionSink(Protocol):
    """What a session does with its chain's results."""

    def proceed(self) -> None:
        """Every plugin lets the connection go on: connect to the upstream."""

    def forward(self, direction: Direction, data: bytes, eos: bool) -> None: ...

    def regulate(self, direction: Direction) -> None:
        """What plugins hold of this direction may have changed."""

    def close(self) -> None:
        """A plugin closes the connection, behind what was sent."""

    def abort(self) -> None:
        """A plugin failed."""


class SessionChain(Protocol):
    """All plugins of one session."""

    def new_connection(self) -> None: ...

    def data(self, direction: Direction, data: bytes, eos: bool) -> None: ...

    def is_full(self, direction: Direction) -> bool:
        """A paused plugin holds as much as it may: read no more of this direction."""

    def closed(self, side: Side, peer: Peer) -> None:
        """The connection is gone; no sink call follows."""

    def finish(self) -> None:
        """on_done, on_log, on_delete, exactly once. No sink call follows."""


class SessionServing(Protocol):
    """What a session needs of its worker."""

    @property
    def counters(self) -> StreamCounters: ...

    def open_chain(self, bindings: tuple[PluginBinding, ...], sink: SessionSink, facts: StreamFacts) -> SessionChain: ...

    def connect(self, node: Node, upstream: Upstream, session: Session) -> Attempt:
        """Tells `connected` or `connect_failed`, later."""

    def timer(self, expire: Callable[[], None]) -> Timer: ...

    def unix_time_ns(self) -> int: ...

    def session_over(self, session: Session) -> None: ...
