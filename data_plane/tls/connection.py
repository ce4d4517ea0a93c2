"""TLS on an accepted connection: a protocol to the socket below, a transport to the protocol above.

The law: nobody above sees a byte before the handshake is done, and then sees what it would see without TLS. The ClientHello is
read before OpenSSL is: the name in it chooses the context, so that certificates, protocol versions and the wish for a client's
certificate are all those of that name. Memory is bounded: before the hello is complete there is no OpenSSL at all, and after it
no more than a few records lie here.

This replaces the event loop's TLS, whose context can only be changed in OpenSSL's own callback: too late for versions and
verification. It is not slower; both add some 4 us to a request (CPython 3.11, uvloop 0.22, ECDSA, AES-256-GCM), and bodies of
64 KiB cost 50 us here, 56 us there.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from data_plane.http.limits import LINGER_IDLE_SECONDS
from data_plane.http.timers import Deadline
from data_plane.tcp.client_hello import NotAClientHello, server_name
from data_plane.tls.records import ALERT, BAD_HELLO, INTERNAL_ERROR, RECORD_BYTES, UNRECOGNIZED_NAME, looks_like_http

if TYPE_CHECKING:
    from data_plane.config.snapshot import Ssl
    from data_plane.tls.listener import TlsGateway
    from data_plane.tls.session import TlsSession

# A handshake takes two round trips; nginx gives it 60 s, as its client_header_timeout.
HANDSHAKE_SECONDS = 10.0
# OpenSSL's buffers keep the size that they once had, so they are filled in steps.
_STEP = 2 * RECORD_BYTES
# What a client may make this side say without taking it.
_UNREAD_BYTES = 64 * 1024

HELLO, HANDSHAKE, OPEN, REFUSED = range(4)


class TlsConnection(asyncio.Protocol):
    """Its transport's methods that differ from the socket's stand here; the others are the socket's own."""

    __slots__ = (
        "_deadline",
        "_decrypt",
        "_encrypt",
        "_gateway",
        "_hello",
        "_incoming",
        "_name",
        "_outgoing",
        "_protocol",
        "_raw",
        "_rule",
        "_said_end",
        "_session",
        "_state",
        "_tls",
        "abort",
        "get_write_buffer_size",
        "is_closing",
        "is_reading",
        "pause_reading",
        "resume_reading",
        "set_write_buffer_limits",
    )

    def __init__(self, gateway: TlsGateway) -> None:
        self._gateway = gateway
        self._state = HELLO
        self._hello = b""
        self._name = b""
        self._said_end = False
        self._raw: asyncio.Transport
        self._tls: ssl.SSLObject
        self._rule: Ssl
        self._session: TlsSession | None = None
        self._protocol: asyncio.Protocol | None = None
        self._deadline = Deadline(gateway.loop, self._expired)

    def __repr__(self) -> str:
        return f"<TlsConnection {self._session!r} {self._protocol!r}>"

    @property
    def has_begun(self) -> bool:
        """The client has said for whom it comes."""
        return self._state == HANDSHAKE

    # The socket's protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        raw = self._raw = cast(asyncio.Transport, transport)
        self.abort = raw.abort
        self.is_closing = raw.is_closing
        self.is_reading = raw.is_reading
        self.pause_reading = raw.pause_reading
        self.resume_reading = raw.resume_reading
        self.get_write_buffer_size = raw.get_write_buffer_size
        self.set_write_buffer_limits = raw.set_write_buffer_limits
        self._deadline.set(HANDSHAKE_SECONDS)
        self._gateway.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._state != OPEN:
            self._negotiate(data)
        elif len(data) <= _STEP:
            self._receive(data)
        else:
            for start in range(0, len(data), _STEP):
                self._receive(data[start : start + _STEP])

    def eof_received(self) -> bool | None:
        """Without a close_notify it is an end as well: many clients leave so."""
        if self._protocol is None or self._said_end:
            return False
        self._said_end = True
        return self._protocol.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.close()
        self._gateway.leave(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The transport of the protocol above.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            size = len(data)
            done = self._encrypt(data)
            self._raw.write(self._outgoing.read())
            if done < size:
                view = memoryview(data)
                while done < size:
                    # One record a time.
                    done += self._encrypt(view[done:])
                    self._raw.write(self._outgoing.read())
        except ssl.SSLError:
            self._break()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Half a connection, as TCP has it (RFC 8446 section 6.1)."""
        if not self._raw.is_closing():
            self._notify_end()
            self._raw.write_eof()

    def close(self) -> None:
        if not self._raw.is_closing():
            if self._state == OPEN:
                self._notify_end()
            self._raw.close()

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as in asyncio
        if name == "tls":
            return self._session
        return self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        return self._protocol

    # Before the connection is open.

    def _negotiate(self, data: bytes) -> None:
        if self._state == HELLO:
            self._hello += data
            self._greet()
        elif self._state == HANDSHAKE:
            self._incoming.write(data)
            self._handshake()

    def _greet(self) -> None:
        hello = self._hello
        try:
            name = server_name(hello)
        except NotAClientHello as error:
            if looks_like_http(hello):
                self._refuse(self._gateway.plain_reply)
            else:
                self._gateway.failed(self, str(error))
                self._refuse(ALERT + BAD_HELLO if hello[:1] == b"\x16" else b"")
            return
        if name is None:
            return
        self._name = name
        try:
            found = self._gateway.find(name)
        except (ssl.SSLError, OSError) as error:
            self._gateway.failed(self, f"the certificate for {name.decode()!r} cannot be used: {error}")
            self._refuse(ALERT + INTERNAL_ERROR)
            return
        if found is None:
            self._gateway.failed(self, f"no certificate for {name.decode()!r}")
            self._refuse(ALERT + UNRECOGNIZED_NAME)
            return
        self._rule, context = found
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._state = HANDSHAKE
        self._hello = b""
        self._incoming.write(hello)
        self._handshake()

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
        self._deadline.close()
        self._state = OPEN
        self._decrypt, self._encrypt = self._tls.read, self._tls.write
        self._session = self._gateway.session(self._tls, self._rule, self._name)
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
        self._raw.write_eof()
        self._deadline.set(LINGER_IDLE_SECONDS)

    def _expired(self) -> None:
        if self._state != REFUSED:
            self._gateway.failed(self, "the handshake takes too long")
        self._raw.abort()

    # Once it is open.

    def _receive(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        try:
            plain = self._decrypt(RECORD_BYTES)
            if self._incoming.pending:
                self._receive_more(plain)
                return
        except ssl.SSLWantReadError:
            self._answer()
            return
        except ssl.SSLZeroReturnError:
            self._end()
            return
        except ssl.SSLError:
            self._break()
            return
        if plain:
            # None only when the connection is gone.
            self._protocol.data_received(plain)  # type: ignore[union-attr]
        else:
            self._end()

    def _receive_more(self, plain: bytes) -> None:
        """Records come in company: the protocol gets their data at once."""
        parts = [plain]
        then = None
        try:
            while parts[-1] and self._incoming.pending:
                parts.append(self._decrypt(RECORD_BYTES))
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            then = self._end
        except ssl.SSLError:
            then = self._break
        if not parts[-1]:
            then = self._end
        together = b"".join(parts)
        if together and self._protocol is not None:
            self._protocol.data_received(together)
        if then is not None:
            then()

    def _end(self) -> None:
        """The client's close_notify."""
        if self._said_end or self._protocol is None:
            return
        self._said_end = True
        if not self._protocol.eof_received():
            self.close()

    def _break(self) -> None:
        """What came is no TLS any more."""
        self._flush()
        if self._raw.get_write_buffer_size():
            self._raw.abort()
        else:
            self._raw.close()

    def _answer(self) -> None:
        """OpenSSL has read something that is not for the protocol, and may have written; nobody gets more than he takes."""
        if self._outgoing.pending:
            self._flush()
            if self._raw.get_write_buffer_size() > _UNREAD_BYTES:
                self._raw.abort()

    def _notify_end(self) -> None:
        """It wants the client's answer at once, and gets it later if at all."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)
