"""Clients over TLS: the connections of the clear listener, with a look at each request's host before it is served.

The law: see session.py; a request that may not be served here is refused before a route sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.h2.downstream import H2ClientConnection
from data_plane.h2.tracing import TracingH2ClientConnection
from data_plane.http.downstream import ClientConnection
from data_plane.http.tracing import TracingConnection
from data_plane.tls.session import TlsSession

if TYPE_CHECKING:
    from data_plane.config.snapshot import SslTable
    from data_plane.exchange.messages import RequestHead
    from data_plane.h2.client_stream import ClientStream
    from shared.proxy_wasm.tls_properties import TlsFacts


def refusal(table: SslTable, tls: TlsFacts | None, request: RequestHead) -> str | None:
    """A kind of exchange/replies.py."""
    if not table.guards or not isinstance(tls, TlsSession):
        return None
    return tls.refusal(table, request.fields.host, request.path)


class TlsClientConnection(ClientConnection):
    __slots__ = ()

    def _begin(self, request: RequestHead, body: bytes) -> None:
        kind = refusal(self._gateway.snapshot.ssls, self.tls, request)
        if kind is None:
            super()._begin(request, body)
        else:
            self._refuse(kind)

    def _begin_upgrade(self, request: RequestHead) -> None:
        kind = refusal(self._gateway.snapshot.ssls, self.tls, request)
        if kind is None:
            super()._begin_upgrade(request)
        else:
            self._refuse(kind)


class TlsTracingConnection(TlsClientConnection, TracingConnection):
    """In a worker that has a trace key."""

    __slots__ = ()


class TlsH2ClientConnection(H2ClientConnection):
    def _begin(self, stream: ClientStream, request: RequestHead) -> None:
        kind = refusal(self._gateway.snapshot.ssls, self.tls, request)
        if kind is None:
            super()._begin(stream, request)
        else:
            self._refuse(stream, kind)


class TlsTracingH2ClientConnection(TlsH2ClientConnection, TracingH2ClientConnection):
    """In a worker that has a trace key."""
