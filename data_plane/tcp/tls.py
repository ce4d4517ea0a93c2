"""TLS towards an upstream, closed on one side as TCP is: the event loop's own TLS cannot do that.

The law: bytes in, bytes out, no sockets; an end is a close_notify, or the end of TCP without one, as servers often leave.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from data_plane.tcp.connection import Connection
from data_plane.tcp.ports import UPSTREAM

if TYPE_CHECKING:
    from data_plane.tcp.listener import StreamGateway
    from data_plane.tcp.session import Session

# As much as a TCP transport hands over at once.
READ_BYTES = 256 * 1024


class TlsConnection(Connection):
    """An upstream's SidePort. The session hears of it when the handshake is done, which may take so many seconds."""

    __slots__ = ("_incoming", "_is_open", "_outgoing", "_seconds", "_tls")

    def __init__(
        self, gateway: StreamGateway, session: Session, seconds: float, context: ssl.SSLContext, server_name: str
    ) -> None:
        super().__init__(gateway, UPSTREAM)
        self._session = session
        self._seconds = seconds
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._is_open = False

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline.set(self._seconds)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        if self._session is None:
            return
        self._incoming.write(data)
        if self._is_open:
            self._read()
        else:
            self._handshake()

    def eof_received(self) -> bool:
        if self._ended:
            return True
        if self._is_open:
            return super().eof_received()
        self._fail()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_open:
            self._fail()
        super().connection_lost(error)

    # --- SidePort

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def send_eof(self) -> None:
        self._notify_end()

    def close(self) -> None:
        self._notify_end()
        super().close()

    # --- in here

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:
            self._flush()  # an alert that says why
            self._fail()
            return
        self._is_open = True
        self._deadline.clear()
        self._flush()
        if self._session is not None:
            self._session.connected(self)
            self._read()

    def _read(self) -> None:
        try:
            while self._session is not None and not self._ended:
                data = self._tls.read(READ_BYTES)
                if data:
                    self._session.data(UPSTREAM, data)
                else:
                    self._end()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self._end()
        except ssl.SSLError:
            session = self._session
            self.reset()
            if session is not None:
                session.lost(UPSTREAM, True)

    def _end(self) -> None:
        self._ended = True
        if self._session is not None:
            self._session.eof(UPSTREAM)

    def _notify_end(self) -> None:
        """It wants the peer's answer at once and gets it later, in `_read`."""
        if self._is_open:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _fail(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.connect_failed()
        self.reset()

    def _expired(self) -> None:
        if self._is_open:
            super()._expired()
        else:
            self._fail()
