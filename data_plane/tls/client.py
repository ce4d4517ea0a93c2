"""HTTP/1 over TLS: the connection of the clear listener, with a look at each request's host before it is served.

The law: see session.py; a request that may not be served here is refused before a route sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.http.downstream import ClientConnection
from data_plane.http.tracing import TracingConnection
from data_plane.tls.session import TlsSession

if TYPE_CHECKING:
    from data_plane.exchange.messages import RequestHead


class TlsClientConnection(ClientConnection):
    __slots__ = ()

    def _begin(self, request: RequestHead, body: bytes) -> None:
        if self._may_ask(request):
            super()._begin(request, body)

    def _begin_upgrade(self, request: RequestHead) -> None:
        if self._may_ask(request):
            super()._begin_upgrade(request)

    def _may_ask(self, request: RequestHead) -> bool:
        table = self._gateway.snapshot.ssls
        if not table.guards or not isinstance(self.tls, TlsSession):
            return True
        kind = self.tls.refusal(table, request.fields.host, request.path)
        if kind is not None:
            self._refuse(kind)
        return kind is None


class TlsTracingConnection(TlsClientConnection, TracingConnection):
    """In a worker that has a trace key."""

    __slots__ = ()
