"""What plugins may ask about a TCP session: the session itself is their StreamFacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.tcp.ports import CLIENT, UPSTREAM

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, StreamRoute
    from data_plane.tcp.ports import ClientPort
    from shared.proxy_wasm.tls_properties import TlsFacts


class SessionFacts:
    """`received` are the bytes that came from each side; `start_time_ns` is Unix time. There is no protocol of requests."""

    __slots__ = ("_client", "_node", "_route", "received", "start_time_ns")

    protocol = ""

    def __init__(self, client: ClientPort, route: StreamRoute, start_time_ns: int) -> None:
        self._client = client
        self._route = route
        self._node: Node | None = None
        self.received = [0, 0]
        self.start_time_ns = start_time_ns

    @property
    def client_address(self) -> tuple[str, int]:
        return self._client.client_address

    @property
    def local_address(self) -> tuple[str, int]:
        return self._client.local_address

    @property
    def connection_id(self) -> int:
        return self._client.connection_id

    @property
    def requested_server_name(self) -> bytes:
        return self._client.server_name

    @property
    def tls(self) -> TlsFacts | None:
        """Where TLS ends here."""
        return self._client.tls

    @property
    def upstream_address(self) -> tuple[str, int] | None:
        return None if self._node is None else (self._node.address or self._node.host, self._node.port)

    @property
    def request_bytes(self) -> int:
        return self.received[CLIENT]

    @property
    def response_bytes(self) -> int:
        return self.received[UPSTREAM]

    @property
    def route_name(self) -> str:
        return self._route.name
