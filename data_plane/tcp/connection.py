"""The sockets of a session: asyncio's events into the session's, its commands into the transport's.

The law: a connection is told of each thing once, and tells nothing after it was closed or reset. One that is closed while its
peer may still send is read and thrown away for a while: bytes nobody read would reset what the peer has not read yet.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

from data_plane.http import limits
from data_plane.http.timers import Deadline
from data_plane.tcp.client_hello import NotAClientHello, server_name
from data_plane.tcp.ports import CLIENT, UPSTREAM, Side
from data_plane.tcp.session import Session

if TYPE_CHECKING:
    from data_plane.tcp.listener import StreamGateway
    from shared.proxy_wasm.tls_properties import TlsFacts

# Lingering for no time is what makes the kernel send a reset.
NO_LINGER = b"\1\0\0\0\0\0\0\0"


class Connection(asyncio.Protocol):
    """A SidePort. `_session` is None before there is one and after it is over."""

    __slots__ = ("_deadline", "_ended", "_gateway", "_session", "_side", "_transport")

    def __init__(self, gateway: StreamGateway, side: Side) -> None:
        self._gateway = gateway
        self._side = side
        self._transport: asyncio.Transport
        self._session: Session | None = None
        self._ended = False
        self._deadline = Deadline(gateway.loop, self._expired)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._gateway.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._session is not None:
            self._session.data(self._side, data)

    def eof_received(self) -> bool:
        """True: what is to be sent is not at its end."""
        self._ended = True
        if self._session is not None:
            self._session.eof(self._side)
        return self._session is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._deadline.close()
        self._gateway.dismiss(self)
        session, self._session = self._session, None
        if session is not None:
            session.lost(self._side, error is not None)

    def pause_writing(self) -> None:
        if self._session is not None:
            self._session.blocked(self._side)

    def resume_writing(self) -> None:
        if self._session is not None:
            self._session.writable(self._side)

    # --- SidePort

    def send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def send_eof(self) -> None:
        if not self._transport.is_closing() and not self._write_eof():
            session = self._session
            self.reset()
            if session is not None:
                session.lost(self._side, True)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def is_paused(self) -> bool:
        return not self._transport.is_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        self._session = None
        transport = self._transport
        if transport.is_closing():
            return
        if self._ended:
            self._deadline.set(limits.SEND_SECONDS)
            transport.close()
            return
        if not self._write_eof():
            transport.abort()
            return
        self._deadline.set(limits.LINGER_SECONDS if self._side == CLIENT else limits.LINGER_IDLE_SECONDS)
        transport.resume_reading()

    def reset(self) -> None:
        self._session = None
        raw = self._transport.get_extra_info("socket")
        if raw is not None and not self._transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._transport.abort()

    def _write_eof(self) -> bool:
        """False: asyncio's own loop has found at once that the connection is gone."""
        try:
            self._transport.write_eof()
        except OSError:
            return False
        return True

    # --- the worker

    def stop(self) -> None:
        """The worker's time is over."""
        if self._session is not None:
            self._session.stop()
        self.reset()

    def _expired(self) -> None:
        """It was closed, and its peer takes too long."""
        self._transport.abort()


class UpstreamConnection(Connection):
    __slots__ = ()

    def __init__(self, gateway: StreamGateway, session: Session) -> None:
        super().__init__(gateway, UPSTREAM)
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Told at once: an upstream that speaks first may have spoken."""
        super().connection_made(transport)
        if self._session is not None:
            self._session.connected(self)


class ClientConnection(Connection):
    """A ClientPort. On a listener that wants TLS it first waits for the ClientHello. `tls` is there where TLS ends here."""

    __slots__ = ("_buffer", "_peeks", "client_address", "connection_id", "local_address", "server_name", "tls")

    def __init__(self, gateway: StreamGateway, peeks: bool) -> None:
        super().__init__(gateway, CLIENT)
        self._peeks = peeks
        self._buffer = b""
        self.server_name = b""
        self.tls: TlsFacts | None = None
        self.connection_id = 0
        self.client_address = ("", 0)
        self.local_address = ("", 0)

    def __repr__(self) -> str:
        return f"<ClientConnection {self.client_address} {self._session!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not local:
            self.reset()  # it has gone already
            return
        self.client_address, self.local_address = (peer[0], peer[1]), (local[0], local[1])
        self.tls = transport.get_extra_info("tls")
        if self.tls is not None:
            self.server_name = self.tls.server_name
        self.connection_id = self._gateway.admit()
        if not self.connection_id:
            self.reset()
        elif self._peeks:
            self._deadline.set(limits.HEAD_SECONDS)
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        if self._peeks:
            self._buffer += data
            self._peek()
        else:
            super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.connection_id:
            self._gateway.release()

    def close(self) -> None:
        self._peeks = False
        super().close()

    def reset(self) -> None:
        self._peeks = False
        super().reset()

    def _peek(self) -> None:
        try:
            name = server_name(self._buffer)
        except NotAClientHello:
            self._gateway.counters.refused += 1
            self.reset()
            return
        if name is not None:
            self.server_name = name
            self._peeks = False
            self._deadline.clear()
            self._begin()

    def _begin(self) -> None:
        data, self._buffer = self._buffer, b""
        session = self._session = self._gateway.open_session(self)
        if session is None:
            self.reset()
        else:
            session.start(data)

    def _expired(self) -> None:
        if self._peeks:
            self._gateway.counters.refused += 1
        self.reset()
