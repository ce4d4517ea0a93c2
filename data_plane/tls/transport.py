"""The encrypted half of a connection: records below, the bytes of a protocol above.

The law: the protocol sees what it would see of a socket: bytes, ends, full and empty buffers; its words leave as records at
once. No more than a few records lie here, whatever a peer sends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from data_plane.tls.records import RECORD_BYTES

if TYPE_CHECKING:
    from data_plane.tls.session import TlsSession

# OpenSSL's buffers keep the size that they once had, so they are filled in steps.
STEP = 2 * RECORD_BYTES
# What a client may make this side say without taking it.
_UNREAD_BYTES = 64 * 1024


class TlsTransport(asyncio.Protocol):
    """The methods of a transport that differ from the socket's stand here; the others are the socket's own."""

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_incoming",
        "_outgoing",
        "_protocol",
        "_raw",
        "_said_end",
        "_session",
        "_stays",
        "_tls",
        "abort",
        "get_write_buffer_size",
        "is_closing",
        "is_reading",
        "pause_reading",
        "resume_reading",
        "set_write_buffer_limits",
    )

    def __init__(self) -> None:
        self._raw: asyncio.Transport
        self._tls: ssl.SSLObject
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._decrypt: Callable[[int], bytes]
        self._encrypt: Callable[[bytes | bytearray | memoryview], int]
        self._session: TlsSession | None = None
        self._protocol: asyncio.Protocol | None = None
        self._said_end = False
        # The protocol still has to send something.
        self._stays = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session!r} {self._protocol!r}>"

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

    def eof_received(self) -> bool | None:
        """Without a close_notify it is an end as well: many clients leave so."""
        if self._protocol is None:
            return False
        if not self._said_end:
            self._said_end = True
            self._stays = bool(self._protocol.eof_received())
        return self._stays

    def connection_lost(self, error: Exception | None) -> None:
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
            done = self._encrypt(data if size <= STEP else memoryview(data)[:STEP])
            self._raw.write(self._outgoing.read())
            if done < size:
                view = memoryview(data)
                while done < size:
                    done += self._encrypt(view[done : done + STEP])
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
            self._end_tcp()

    def close(self) -> None:
        if not self._raw.is_closing():
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

    # In here.

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
        self._stays = bool(self._protocol.eof_received())
        if not self._stays:
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

    def _end_tcp(self) -> None:
        """asyncio's own loop finds at once that the connection is gone."""
        try:
            self._raw.write_eof()
        except OSError:
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
