"""Exchanges of clients that speak HTTP/2: those of HTTP/1, and what only HTTP/2 has room for.

The law: an exchange is of the kind that its route makes it, and becomes the same kind of HTTP/2 before its first event; all
else is inherited. Trailers pass in both directions whether or not a plugin reads them, since gRPC's status is in them, and the
gateway's own replies to gRPC requests are answers of gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.filtered import FilteredExchange
from data_plane.exchange.heads import HeadExchange
from data_plane.exchange.messages import UNTIL_CLOSE
from data_plane.exchange.ports import ClientPort
from data_plane.exchange.replies import reply_for
from data_plane.exchange.sending import DONE, REPLYING, RESPONDING, WAITING
from data_plane.h2.grpc import trailers_only

if TYPE_CHECKING:
    from data_plane.exchange.messages import ResponseHead


class H2ClientPort(ClientPort, Protocol):
    """A stream. `is_grpc`: its request is one of gRPC."""

    is_grpc: bool

    def end_with(self, lines: bytes) -> None:
        """The response's end, when it is said, has these field lines behind it; the last ones count."""


def _port(exchange: Exchange) -> H2ClientPort:
    return cast(H2ClientPort, exchange.client)


class H2Exchange(Exchange):
    """Without plugins; also what all kinds have in common."""

    __slots__ = ()

    @property
    def keeps_trailers(self) -> bool:  # type: ignore[override]  # asked once, when a response in chunks begins
        return True

    def request_trailers(self, lines: bytes) -> None:
        self.request_done = True
        outgoing = self._outgoing
        if outgoing is not None and self.state <= RESPONDING:
            outgoing.end_with(lines)
            self._pump(outgoing)

    def upstream_interim(self, response: ResponseHead) -> None:
        if self.state == WAITING:
            self.client.send(response.open + b"\r\n")

    def upstream_trailers(self, lines: bytes) -> None:
        _port(self).end_with(lines)

    def _fail(self, kind: str) -> None:
        if not _port(self).is_grpc:
            super()._fail(kind)
            return
        reply = reply_for(kind)
        self._drop_upstream()
        self._begin_response(trailers_only(reply.head, reply.body), 200, UNTIL_CLOSE, b"", b"", True)


class _Filtered(H2Exchange, FilteredExchange):
    __slots__ = ()

    def request_trailers(self, lines: bytes) -> None:
        self.request_done = True
        if self.state > RESPONDING:
            return
        self._depth += 1
        self._chain.request_trailers(lines)
        self._leave()
        self._regulate_request()

    def upstream_trailers(self, lines: bytes) -> None:
        FilteredExchange.upstream_trailers(self, lines)

    def forward_response_trailers(self, lines: bytes) -> None:
        if self.state == DONE:
            return
        if self._held is not None:
            self._release_head(b"", False)
        _port(self).end_with(lines)
        self._continue_response(b"", True)

    def _fail(self, kind: str) -> None:
        if self.state < RESPONDING:
            FilteredExchange._fail(self, kind)
        else:
            super()._fail(kind)

    def _reply(self, head: bytes, body: bytes) -> None:
        port = _port(self)
        port.end_with(b"")
        if not port.is_grpc:
            super()._reply(head, body)
            return
        self._drop_upstream()
        self.state = REPLYING
        self._respond(trailers_only(head, body), UNTIL_CLOSE, b"", b"", True)


class H2FilteredExchange(_Filtered):
    __slots__ = ()


class H2HeadExchange(_Filtered, HeadExchange):
    __slots__ = ()

    def upstream_trailers(self, lines: bytes) -> None:
        if self._stream is not None or self._settled:
            _port(self).end_with(lines)
        else:
            super().upstream_trailers(lines)

    def _fail(self, kind: str) -> None:
        if self.state < RESPONDING:
            HeadExchange._fail(self, kind)
        else:
            super()._fail(kind)


_KINDS: dict[type[Exchange], type[Exchange]] = {
    Exchange: H2Exchange,
    FilteredExchange: H2FilteredExchange,
    HeadExchange: H2HeadExchange,
}


def spoken_over_h2(exchange: Exchange) -> Exchange:
    """The same exchange, as its client's protocol has it. Its client is an H2ClientPort."""
    exchange.__class__ = _KINDS[type(exchange)]
    return exchange
