"""Connections of calls over TLS: a pool whose connections begin with a handshake that names and verifies the server.

The law: a server must prove the name that the call asks for, with a certificate that the system's authorities (or those of
SSL_CERT_FILE) vouch for. Only the configuration of a native plugin can do without; its calls have connections of their own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from data_plane.callout.target import TlsNode
from data_plane.config.snapshot import Node
from data_plane.http.outbox import Outbox
from data_plane.http.pool import NodePool, Pool
from data_plane.http.upstream import UpstreamConnection


def client_context(*protocols: str) -> ssl.SSLContext:
    """With the ALPN protocols to offer, if any."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def unverified_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_name_of(node: Node) -> str:
    return node.server_name if isinstance(node, TlsNode) else node.host


class TlsContext:
    """A client's context, made when it is first needed and beside the loop: reading all authorities takes 20 ms."""

    __slots__ = ("_context", "_make")

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._context: ssl.SSLContext | None = None

    server_name = staticmethod(server_name_of)

    def failed(self, node: Node, error: OSError) -> None:
        """The plugin is told."""

    async def get(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(self._make)
        return self._context


class TlsPool(Pool):
    __slots__ = ("_context",)

    def __init__(self, loop: asyncio.AbstractEventLoop, context: TlsContext) -> None:
        super().__init__(loop, Outbox(loop))
        self._context = context

    async def _open(self, pool: NodePool) -> UpstreamConnection:
        node = pool.node
        _, conn = await self._loop.create_connection(
            lambda: UpstreamConnection(self._loop, pool),  # type: ignore[type-var]  # a protocol by its methods
            node.host,
            node.port,
            ssl=await self._context.get(),
            server_hostname=server_name_of(node),
        )
        return conn
