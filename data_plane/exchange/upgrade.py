"""A request that offers to go on as WebSocket (RFC 9110, section 7.8; RFC 6455, section 4), where its route lets it.

The law: up to the upstream's 101 it is a request like any other, and its plugins see both heads of the handshake with the
fields that make it one. Any other answer is an ordinary response, and what follows the request on its connection is HTTP. With
the 101 the bytes of both sides are the tunnel's, which plugins do not see; the exchange ends with the tunnel.

An offer on a route without `enable_websocket` is declined by not being passed on, as in APISIX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.filtered import FilteredExchange
from data_plane.exchange.framing import length_line
from data_plane.exchange.opening import find_route, open_exchange
from data_plane.exchange.ports import ClientPort
from data_plane.exchange.sending import DONE, RESPONDING, WAITING
from data_plane.exchange.watched import Watched

if TYPE_CHECKING:
    from data_plane.config.snapshot import Attempt, Binding, Route
    from data_plane.exchange.messages import RequestHead, ResponseHead
    from data_plane.exchange.ports import Serving, UpstreamPort

UPGRADE_LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


class TunnelClient(ClientPort, Protocol):
    """A client whose connection can become one end of a tunnel."""

    def tunnel(self, data: bytes, upstream: UpstreamPort, idle_seconds: float) -> None:
        """Send this, then pass on what each side sends, until both have ended or neither has said anything for so long. The
        exchange is told `tunnel_ended`; neither connection tells it anything else from now on.
        """


class Upgrading(Exchange):
    """What both kinds have in common. `_early` is what came behind the 101, and None before it and after the switch."""

    __slots__ = ()
    _early: bytes | None
    _attempt: Attempt | None

    def upgrades(self) -> bool:
        return self.state == WAITING and bool(self.head.fields.framing)

    def _begin_response(self, head: bytes, status: int, length: int, framing: bytes, data: bytes, eos: bool) -> None:
        early = self._early
        self._early = None
        conn = self.conn
        if early is None or conn is None or status != 101:
            # Declined by the upstream, or undone by a plugin.
            super()._begin_response(head, status, length, length_line(0) if framing == UPGRADE_LINES else framing, data, eos)
            return
        self.conn = None
        if isinstance(conn, Watched):
            conn, self._attempt = conn.apart()
        self._on_wire = True
        self.serving.counters.responses[101] += 1
        data = b"%b%b\r\n%b" % (head, UPGRADE_LINES, early)
        cast(TunnelClient, self.client).tunnel(data, conn, self._read_timeout())

    def tunnel_ended(self) -> None:
        if self._attempt is not None:
            self._attempt.end()
        if self.state != DONE:
            self._end()


class UpgradeExchange(Upgrading):
    __slots__ = ("_attempt", "_early")

    def __init__(self, serving: Serving, client: TunnelClient, head: RequestHead, route: Route) -> None:
        super().__init__(serving, client, head, route)
        self._early: bytes | None = None
        self._attempt: Attempt | None = None

    def upstream_switched(self, response: ResponseHead, early: bytes) -> None:
        self.state = RESPONDING
        self._early = early
        self._begin_response(response.open, response.status, 0, UPGRADE_LINES, b"", True)


class FilteredUpgradeExchange(Upgrading, FilteredExchange):
    """Plugins see heads that are all of their messages: what comes behind them is no body."""

    __slots__ = ("_attempt", "_early")

    def __init__(
        self, serving: Serving, client: TunnelClient, head: RequestHead, route: Route, bindings: tuple[Binding, ...]
    ) -> None:
        self._early: bytes | None = None
        self._attempt: Attempt | None = None
        FilteredExchange.__init__(self, serving, client, head, route, bindings)

    def find_route(self, head: bytes) -> None:
        super().find_route(head)
        if not _can_switch(self.route):
            self.head.fields.framing = b""

    def upstream_switched(self, response: ResponseHead, early: bytes) -> None:
        self.state = RESPONDING
        self._early = early
        self._respond(response.open, 0, UPGRADE_LINES, b"", True)

    def _reply(self, head: bytes, body: bytes) -> None:
        self._early = None
        super()._reply(head, body)


def _can_switch(route: Route | None) -> bool:
    """HTTP/2, which gRPC's upstreams speak, knows no Upgrade."""
    if route is None or route.upstream is None:
        return False
    return route.enable_websocket and route.upstream.scheme in ("http", "https")


def open_upgrade(serving: Serving, client: TunnelClient, head: RequestHead) -> Exchange:
    """The exchange of a request without a body whose client offers WebSocket, on the snapshot of now."""
    fields = head.fields
    route = find_route(serving.snapshot, client, head, UPGRADE_LINES)
    if route is None or not _can_switch(route):
        return open_exchange(serving, client, head)
    # What frames the request: no body ever follows it.
    fields.framing = UPGRADE_LINES
    if route.bindings:
        return FilteredUpgradeExchange(serving, client, head, route, route.bindings)
    return UpgradeExchange(serving, client, head, route)
