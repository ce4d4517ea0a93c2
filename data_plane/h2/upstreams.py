"""The upstreams of a worker that speak HTTP/2 (schemes grpc and grpcs): each request is a stream of a connection to its node.

The law: requests to one node share its connections, whatever route they come by, as long as they are secured alike: then their
nodes have the same key.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol

from data_plane.h2.pool import H2Pool
from data_plane.h2.upstream_stream import UpstreamStream

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Timeouts, Upstream
    from data_plane.exchange.requester import Requester
    from data_plane.upstream_tls.client_tls import ClientTls
    from data_plane.upstream_tls.contexts import ClientContexts

SCHEMES = frozenset({"grpc", "grpcs"})


class Owner(Protocol):
    """Whose connections they are."""

    contexts: ClientContexts

    def tls_failed(self, node: Node, tls: ClientTls, error: OSError) -> None: ...


class Secured:
    """As an upstream's configuration says it."""

    def __init__(self, owner: Owner, tls: ClientTls) -> None:
        self._owner = owner
        self._tls = tls

    async def get(self) -> ssl.SSLContext:
        return await self._owner.contexts.get(self._tls, "h2")

    def server_name(self, node: Node) -> str:
        return self._tls.name_for(node)

    def failed(self, node: Node, error: OSError) -> None:
        self._owner.tls_failed(node, self._tls, error)


class H2Upstreams:
    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self._pools: dict[ClientTls | None, H2Pool] = {None: H2Pool(loop, None)}

    def connect(self, node: Node, upstream: Upstream, timeouts: Timeouts, exchange: Requester) -> None:
        """As a PoolPort's."""
        tls = upstream.tls
        pool = self._pools.get(tls)
        if pool is None:
            self._drop_unused()
            pool = self._pools[tls] = H2Pool(self._loop, None if tls is None else Secured(self._owner, tls))
        scheme = b"http" if tls is None else b"https"
        stream = UpstreamStream(pool, node, timeouts.connect, upstream.keepalive_pool, scheme, exchange)
        pool.ask(node, timeouts.connect, stream)

    def _drop_unused(self) -> None:
        """Another certificate or name is another pool."""
        self._pools = {tls: pool for tls, pool in self._pools.items() if tls is None or not pool.is_empty()}

    def retire(self, key: bytes) -> None:
        """A node has gone: its connections end with what they carry."""
        for pool in self._pools.values():
            pool.retire(key)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()
