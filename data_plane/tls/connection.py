"""TLS on an accepted connection, from the ClientHello to the protocol that goes on.

The law: nobody above sees a byte before the handshake is done. The ClientHello is read before OpenSSL gets it: the name in it
chooses the context, so that certificates, protocol versions and the wish for a client's certificate are all those of that name.
Before the hello is complete there is no OpenSSL at all.

This replaces the event loop's TLS, whose context can only be changed in OpenSSL's own callback: too late for versions and
verification. It is not slower; both add some 4 us to a request (CPython 3.11, uvloop 0.22, ECDSA, AES-256-GCM), and bodies of
64 KiB cost 50 us here, 56 us there.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from data_plane.http.limits import LINGER_IDLE_SECONDS
from data_plane.http.timers import Deadline
from data_plane.tcp.client_hello import ClientHello, NotAClientHello, client_hello
from data_plane.tls.records import (
    ALERT,
    BAD_HELLO,
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    looks_like_http,
)
from data_plane.tls.transport import STEP, TlsTransport

if TYPE_CHECKING:
    from data_plane.config.snapshot import Ssl
    from data_plane.tls.listener import TlsGateway

# A handshake takes two round trips; nginx gives it 60 s, as its client_header_timeout.
HANDSHAKE_SECONDS = 10.0

HELLO, HANDSHAKE, OPEN, REFUSED = range(4)


class TlsConnection(TlsTransport):
    """One per accepted connection."""

    __slots__ = ("_deadline", "_gateway", "_hello", "_name", "_rule", "_state")

    def __init__(self, gateway: TlsGateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._state = HELLO
        self._hello = b""
        self._name = b""
        self._rule: Ssl
        self._deadline = Deadline(gateway.loop, self._expired)

    def peer(self) -> str:
        found: tuple[str, int] = self._raw.get_extra_info("peername") or ("", 0)
        return found[0]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline.set(HANDSHAKE_SECONDS)
        self._gateway.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._state != OPEN:
            self._negotiate(data)
        elif len(data) <= STEP:
            self._receive(data)
        else:
            for start in range(0, len(data), STEP):
                self._receive(data[start : start + STEP])

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.close()
        self._gateway.leave(self)
        super().connection_lost(error)

    def _negotiate(self, data: bytes) -> None:
        if self._state == HELLO:
            self._hello += data
            self._greet()
        elif self._state == HANDSHAKE:
            self._incoming.write(data)
            self._handshake()

    def _greet(self) -> None:
        data = self._hello
        try:
            hello = client_hello(data)
        except NotAClientHello as error:
            if looks_like_http(data):
                self._refuse(self._gateway.plain_reply)
            else:
                self._gateway.failed(self, str(error))
                self._refuse(ALERT + BAD_HELLO if data[:1] == b"\x16" else b"")
            return
        if hello is None:
            return
        context = self._choose(hello)
        if context is None:
            return
        self._name = hello.name
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._state = HANDSHAKE
        self._hello = b""
        self._incoming.write(data)
        self._handshake()

    def _choose(self, hello: ClientHello) -> ssl.SSLContext | None:
        """None when the client was told why not."""
        name = hello.name.decode("ascii")
        try:
            found = self._gateway.find(hello.name)
        except (ssl.SSLError, OSError) as error:
            reason, alert = f"the certificate for {name!r} cannot be used: {error}", INTERNAL_ERROR
        else:
            if found is None:
                reason, alert = f"no certificate for {name!r}", UNRECOGNIZED_NAME
            elif not self._gateway.speaks_one_of(hello.protocols):
                reason, alert = f"none of its protocols is spoken here: {hello.protocols!r}", NO_APPLICATION_PROTOCOL
            else:
                self._rule, context = found
                return context
        self._gateway.failed(self, reason)
        self._refuse(ALERT + alert)
        return None

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._gateway.failed(self, error.reason or str(error))
            self._flush()
            self._refuse(b"")
            return
        self._flush()
        session = self._session = self._gateway.session(self._tls, self._rule, self._name)
        if not self._gateway.admits(session):
            self._gateway.failed(self, "a certificate of the client is needed")
            self._refuse(b"")
            return
        self._deadline.close()
        self._state = OPEN
        self._decrypt, self._encrypt = self._tls.read, self._tls.write
        self._gateway.leave(self)
        protocol = self._protocol = self._gateway.protocol_for(self._tls.selected_alpn_protocol())
        protocol.connection_made(cast(asyncio.Transport, self))
        if self._incoming.pending:
            self._receive(b"")

    def _refuse(self, answer: bytes) -> None:
        """What the client has sent is read, what it sends is not: it gets to read the answer."""
        self._state = REFUSED
        self._hello = b""
        if self._raw.is_closing():
            return
        if answer:
            self._raw.write(answer)
        self._end_tcp()
        self._deadline.set(LINGER_IDLE_SECONDS)

    def _expired(self) -> None:
        if self._state != REFUSED:
            self._gateway.failed(self, "the handshake takes too long")
        self._raw.abort()
