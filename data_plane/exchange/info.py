"""What plugins may ask about an exchange beyond its heads: the exchange itself is their StreamInfo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.sending import DONE, RESPONDING

if TYPE_CHECKING:
    from data_plane.config.snapshot import Route, Upstream
    from data_plane.exchange.messages import RequestHead
    from data_plane.exchange.ports import ClientPort, Serving
    from shared.proxy_wasm.tls_properties import TlsFacts

# By `minor_version`.
_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")
# Schemes that are not for requests.
_STREAMS = frozenset({"tcp", "tls"})


@mypyc_attr(allow_interpreted_subclasses=True)
class DescribedExchange(Exchange):
    """`request_bytes` and `response_bytes` count bodies so far; `start_time_ns` is Unix time."""

    __slots__ = ("request_bytes", "response_bytes", "start_time_ns")

    def __init__(self, serving: Serving, client: ClientPort, head: RequestHead, route: Route | None) -> None:
        Exchange.__init__(self, serving, client, head, route)
        self.request_bytes = 0
        self.response_bytes = 0
        self.start_time_ns = client.unix_time_ns()

    def use_upstream(self, upstream: Upstream) -> None:
        """In the place of the route's, before the request is sent. Timeouts that are the route's own stay."""
        route = self.route
        if route is None:
            return
        inherited = route.upstream is None or route.timeouts == route.upstream.timeouts
        timeouts = upstream.timeouts if inherited else route.timeouts
        if upstream.scheme in _STREAMS:
            self.route = replace(route, upstream=None, problem="upstream_not_http")
        else:
            self.route = replace(route, upstream=upstream, timeouts=timeouts, problem=None)

    @property
    def client_address(self) -> tuple[str, int]:
        return self.client.client_address

    @property
    def local_address(self) -> tuple[str, int]:
        return self.client.local_address

    @property
    def connection_id(self) -> int:
        return self.client.connection_id

    @property
    def tls(self) -> TlsFacts | None:
        return self.client.tls

    @property
    def protocol(self) -> str:
        return _PROTOCOLS[self.head.fields.minor_version]

    @property
    def upstream_address(self) -> tuple[str, int] | None:
        node = self.node
        return None if node is None else (node.address or node.host, node.port)

    @property
    def upstream_name(self) -> str | None:
        route = self.route
        return None if route is None or route.upstream is None else route.upstream.name

    @property
    def attempts(self) -> int | None:
        """Nodes that the request was sent to, or was to be."""
        return None if self.node is None else len(self._tried) or 1

    @property
    def declared_length(self) -> int:
        """What the response says of its body's length; below 0 when it does not say."""
        return self._length

    @property
    def duration_ns(self) -> int | None:
        """Once the response is here in full, or what there will be of it."""
        over = self.state == DONE or (self.state == RESPONDING and self.conn is None)
        return self.client.unix_time_ns() - self.start_time_ns if over else None

    @property
    def route_name(self) -> str:
        route = self.route
        return "" if route is None else route.name
