"""What an exchange needs of the world: small interfaces that the shells implement and that tests record.

The law: a call on a port does not wait and does not fail; what comes of it is told later as an event of the exchange. A port
may tell such an event before the call returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Route, Snapshot, Timeouts, Upstream
    from data_plane.exchange.requester import Requester
    from data_plane.observe.counters import Counters
    from data_plane.plugins.interface import PluginRuntime
    from shared.proxy_wasm.tls_properties import TlsFacts


class ClientPort(Protocol):
    """The connection to the client."""

    client_address: tuple[str, int]
    local_address: tuple[str, int]
    connection_id: int
    tls: TlsFacts | None

    def send(self, data: bytes) -> None: ...

    def pause_body(self) -> None:
        """Stop reading the request's body; `resume_body` ends it."""

    def resume_body(self) -> None: ...

    def finish(self, data: bytes, keep_alive: bool) -> None:
        """Send the last of the response. Without `keep_alive` the connection is closed once the client had time to read."""

    def cut(self, hard: bool) -> None:
        """The response cannot be completed: close now, by a reset if `hard` (a mere close would look complete)."""

    def unix_time_ns(self) -> int: ...


class TrailingClient(ClientPort, Protocol):
    """A client of HTTP/2 (`minor_version` is 2): responses have no framing for it, and may have trailers."""

    def end_with(self, lines: bytes) -> None:
        """The response's end, when it is said, has these field lines behind it; the last ones count."""


class UpstreamPort(Protocol):
    """A connection to an upstream, used by one exchange at a time, from `begin` to `release` or `close`."""

    @property
    def reused(self) -> bool:
        """Whether it has served another exchange."""

    @property
    def heard(self) -> bool:
        """Whether a byte of an answer to this request has come; asked before the final head, and after the loss."""

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        """Send a request's beginning; from now on the exchange is told what happens.

        With a `read_timeout` that is all of the request, and the upstream may not be silent for so many seconds.
        """

    def send(self, data: bytes) -> None: ...

    def await_response(self, read_timeout: float) -> None:
        """The request is complete now."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def release(self) -> None:
        """Both messages are complete: keep the connection for another exchange if it can be."""

    def close(self) -> None: ...


class PoolPort(Protocol):
    def take(self, node: Node, checked: bool) -> UpstreamPort | None:
        """An idle connection; `checked`, for a request that cannot be repeated, asks for one that is surely alive."""

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Requester) -> None:
        """Open one; the exchange is told `upstream_ready` or `upstream_failed`."""


class Serving(Protocol):
    """What all connections of a worker share. The exchange reads the snapshot once, at its start."""

    snapshot: Snapshot
    draining: bool
    counters: Counters

    @property
    def pool(self) -> PoolPort: ...

    @property
    def runtime(self) -> PluginRuntime: ...

    def find_route(self, head: bytes, client: ClientPort) -> Route | None:
        """The route of an open head that plugins have written, for this client."""
