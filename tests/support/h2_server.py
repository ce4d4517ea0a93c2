"""An HTTP/2 server in memory at the other end of an upstream's connection: windows, ends, and whatever it is told to do."""

from __future__ import annotations

import asyncio
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event

from data_plane.config.snapshot import KeepalivePool
from data_plane.h2.upstream import UpstreamH2Connection
from tests.support.chain import ManualLoop

KEPT = KeepalivePool()
FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/m"), (b":authority", b"h")]


class Socket:
    def setsockopt(self, *_: int) -> None: ...


class Wire:
    """The transport, and the server at its end."""

    def __init__(self, *, greets: bool = True, loop: ManualLoop | None = None, keepalive: KeepalivePool = KEPT) -> None:
        self.loop = loop or ManualLoop()
        self.ended: list[UpstreamH2Connection] = []
        self.closed = self.stuck = False
        self.rested = 0
        self.unread = 0
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.events: list[Event] = []
        self.conn = UpstreamH2Connection(cast(asyncio.AbstractEventLoop, self.loop), self.ended.append, keepalive, self._rested)
        self.conn.connection_made(cast(asyncio.BaseTransport, self))
        if greets:
            self.server.initiate_connection()
            self.reply()

    def _rested(self) -> None:
        self.rested += 1

    def get_extra_info(self, name: str) -> Socket:
        return Socket()

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        if self.stuck:
            self.unread += len(data)
        else:
            self.events += self.server.receive_data(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def reply(self) -> None:
        """What the server has to say goes out."""
        self.loop.advance()
        self.conn.data_received(self.server.data_to_send())

    def took(self, kind: type[Event]) -> list[Event]:
        self.loop.advance()
        return [event for event in self.events if isinstance(event, kind)]

    def data(self) -> bytes:
        self.loop.advance()
        return b"".join(event.data or b"" for event in self.events if isinstance(event, DataReceived))
