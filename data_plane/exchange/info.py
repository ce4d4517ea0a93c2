"""What plugins may ask about an exchange beyond its heads; made only for an exchange that has a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.exchange.filtered import FilteredExchange


class ExchangeInfo:
    """The plugins' StreamInfo: a view of the exchange, and the time at which it was made."""

    __slots__ = ("_exchange", "_start_time_ns")

    def __init__(self, exchange: FilteredExchange) -> None:
        self._exchange = exchange
        self._start_time_ns = exchange.client.unix_time_ns()

    @property
    def client_address(self) -> tuple[str, int]:
        return self._exchange.client.client_address

    @property
    def local_address(self) -> tuple[str, int]:
        return self._exchange.client.local_address

    @property
    def connection_id(self) -> int:
        return self._exchange.client.connection_id

    @property
    def protocol(self) -> str:
        return "HTTP/1.1" if self._exchange.head.fields.minor_version == 1 else "HTTP/1.0"

    @property
    def upstream_address(self) -> tuple[str, int] | None:
        node = self._exchange.node
        return None if node is None else (node.host, node.port)

    @property
    def start_time_ns(self) -> int:
        return self._start_time_ns

    @property
    def request_bytes(self) -> int:
        return self._exchange.request_bytes

    @property
    def response_bytes(self) -> int:
        return self._exchange.response_bytes

    @property
    def route_name(self) -> str:
        route = self._exchange.route
        return "" if route is None else route.name
