"""Who watches the nodes of a worker's upstreams: health checks and DNS, as the compiler asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.dns.service import DnsService, NamedNodes
from data_plane.health.service import HealthService
from data_plane.health.watched import WatchedNodes

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from shared.schema.upstream import UpstreamSpec


class NodeWatchers:
    """`Watchers` (data_plane/balance/health.py)."""

    def __init__(self, health: HealthService, dns: DnsService) -> None:
        self._health = health
        self._dns = dns

    def __repr__(self) -> str:
        return f"<NodeWatchers {self._health!r} {self._dns!r}>"

    def health(self, upstream: str, spec: UpstreamSpec) -> WatchedNodes | None:
        return self._health.health(upstream, spec)

    def addresses(self, upstream: str, nodes: tuple[Node, ...]) -> NamedNodes | None:
        return self._dns.addresses(upstream, nodes)

    def forget(self, upstream: str) -> None:
        self._health.forget(upstream)
        self._dns.forget(upstream)

    def settled(self) -> None:
        """A snapshot is served."""
        self._health.settled()

    async def close(self) -> None:
        await self._health.close()
        await self._dns.close()
