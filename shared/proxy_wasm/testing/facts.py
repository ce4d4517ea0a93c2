"""What a plugin may learn of a request beyond its messages, when nobody is connected."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Facts:
    """The properties of the connection and the route. The defaults are addresses that exist in documentation only."""

    client_address: tuple[str, int] = ("192.0.2.1", 50000)
    local_address: tuple[str, int] = ("192.0.2.2", 9080)
    upstream_address: tuple[str, int] | None = ("192.0.2.3", 80)
    connection_id: int = 1
    protocol: str = "HTTP/1.1"
    route_name: str = "route"
    start_time_ns: int = 1_700_000_000_000_000_000
    request_bytes: int = 0
    response_bytes: int = 0
