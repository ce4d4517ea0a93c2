"""Where TLS connections come in: who is let in, which certificate is shown, and which protocol goes on.

The law: handshakes in progress are bounded: a new one drives out the oldest, so that a flood of clients that never end theirs
keeps out nobody who does. A connection counts among the gateway's clients from the end of its handshake on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import structlog

from data_plane.exchange.framing import CLOSE_LINE, length_line
from data_plane.exchange.replies import reply_for
from data_plane.http.listener import BACKLOG, Gateway
from data_plane.observe.log_rate import LogRate
from data_plane.tls.connection import TlsConnection
from data_plane.tls.contexts import Contexts
from data_plane.tls.session import KnownPeers, TlsSession, verified_peer

if TYPE_CHECKING:
    from data_plane.config.snapshot import Ssl

log = structlog.get_logger("tls")

# Enough to see what goes wrong with whom.
LINES_PER_SECOND = 10
# What a worker that goes away leaves to handshakes: a few round trips.
DRAIN_SECONDS = 1.0
H2, HTTP_1 = "h2", "http/1.1"
# Under this name stands who speaks whatever a client wants, without ALPN.
ANY = ""

# What speaks a protocol of ALPN on a connection that was accepted for a gateway: an asyncio.Protocol by its methods.
Speaker = Callable[[Gateway], object]


class TlsGateway:
    """Of one worker. `speakers` by ALPN name, the best first; who names no protocol gets HTTP/1.1. ANY stands alone."""

    def __init__(self, gateway: Gateway, speakers: Mapping[str, Speaker], ciphers: str = "") -> None:
        self.loop = gateway.loop
        self._gateway = gateway
        self._speakers = dict(speakers)
        offered = tuple(name for name in speakers if name != ANY)
        self._spoken = frozenset(name.encode() for name in offered)
        self._contexts = Contexts(offered, ciphers)
        self._known = KnownPeers()
        self._handshaking: dict[TlsConnection, None] = {}
        self._ended = asyncio.Event()
        self._rate = LogRate(LINES_PER_SECOND, self.loop, lambda lines: log.warning("more failed handshakes", handshakes=lines))
        reply = reply_for("plain_http")
        self.plain_reply = b"%b%b%b\r\n%b" % (reply.head, length_line(len(reply.body)), CLOSE_LINE, reply.body)

    def __repr__(self) -> str:
        return f"<TlsGateway handshaking={len(self._handshaking)}>"

    @property
    def handshaking(self) -> int:
        return len(self._handshaking)

    # What a connection asks.

    def enter(self, connection: TlsConnection) -> None:
        gateway, handshaking = self._gateway, self._handshaking
        room = min(gateway.limit // 2, gateway.limit - len(gateway.clients))
        if len(handshaking) >= max(room, 1):
            oldest = next(iter(handshaking))
            del handshaking[oldest]
            oldest.abort()
        handshaking[connection] = None

    def leave(self, connection: TlsConnection) -> None:
        """It is open or gone; one that is refused still has a file."""
        self._handshaking.pop(connection, None)
        if not self._handshaking:
            self._ended.set()

    def find(self, name: bytes) -> tuple[Ssl, ssl.SSLContext] | None:
        """Raises ssl.SSLError or OSError when there is a certificate that OpenSSL does not take."""
        table = self._gateway.snapshot.ssls
        found = table.names.match(name)
        return None if found is None else (found, self._contexts.get(table, found))

    def speaks_one_of(self, protocols: tuple[bytes, ...]) -> bool:
        """A client that names none takes what it gets; to one that names others nothing may be said (RFC 7301 section 3.2)."""
        return not protocols or ANY in self._speakers or not self._spoken.isdisjoint(protocols)

    def session(self, tls: ssl.SSLObject, rule: Ssl, name: bytes) -> TlsSession:
        peer = None if rule.client is None else verified_peer(tls, rule.client.depth, self._known)
        return TlsSession(rule, tls.version() or "", name, peer)

    def admits(self, session: TlsSession) -> bool:
        """Without requests there is no path that could be open to others."""
        return ANY not in self._speakers or session.rule.client is None or session.peer is not None

    def protocol_for(self, name: str | None) -> asyncio.Protocol:
        speaker = self._speakers.get(ANY) or self._speakers[name or HTTP_1]
        return cast(asyncio.Protocol, speaker(self._gateway))

    def failed(self, connection: TlsConnection, reason: str) -> None:
        if self._rate.admits():
            log.info("TLS handshake failed", client=connection.peer(), reason=reason)

    async def drain(self) -> None:
        """Nobody comes any more; who is here, his hello perhaps on its way, gets in if he is quick."""
        if self._handshaking:
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._ended.wait()
        self.close()

    def close(self) -> None:
        for connection in tuple(self._handshaking):
            connection.abort()


async def serve_tls(
    gateway: TlsGateway, listener: socket.socket, connection: Callable[[TlsGateway], asyncio.Protocol] = TlsConnection
) -> asyncio.Server:
    return await gateway.loop.create_server(lambda: connection(gateway), sock=listener, backlog=BACKLOG)
