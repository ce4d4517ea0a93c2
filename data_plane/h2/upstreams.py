"""The upstreams of a worker that speak HTTP/2 (schemes grpc and grpcs): each request is a stream of a connection to its node.

The law: requests to one node share its connections, whatever route they come by; a node in the clear and the same node over
TLS have different ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from data_plane.h2.pool import H2Pool
from data_plane.h2.upstream_stream import UpstreamStream

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Timeouts, Upstream
    from data_plane.exchange.sending import Sending

SCHEMES = frozenset({"grpc", "grpcs"})


class H2Upstreams:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clear = H2Pool(loop, None)

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Sending) -> None:
        """As a PoolPort's."""
        pool, scheme = self._clear, b"http"
        pool.ask(node, timeouts.connect, UpstreamStream(pool, node, timeouts.connect, scheme, exchange))

    async def close(self) -> None:
        await self._clear.close()
