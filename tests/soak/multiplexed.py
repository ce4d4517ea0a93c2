"""The soak's clients of HTTP/2: several requests at once over a connection that is kept.

The law: as in clients.py, nothing is tried twice. A stream that a GOAWAY or a REFUSED_STREAM says was not taken is nobody's
failure; every other one has its answer before the connection ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from tests.soak.books import Books
from tests.soak.upstream import HOST, PIECE, PIECES
from tests.support.h2_client import Deaf

PATIENCE_SECONDS = 20.0
REST_SECONDS = 0.01
# Below a frame and the first window.
UPLOAD_BYTES = 16_000


@dataclass(slots=True)
class Asked:
    """A stream, and what has come on it."""

    kind: str
    expected: bytes
    began: float
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        # It goes on reading after a GOAWAY.
        self._h2.state_machine = Deaf()
        self._h2.initiate_connection()
        # A server that goes away says the last stream that it takes.
        self.last: int | None = None
        self.open: dict[int, Asked] = {}

    def ask(self, kind: str, method: bytes, path: bytes, expected: bytes, body: bytes = b"") -> None:
        stream = self._h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"http"), (b":authority", b"soak"), (b":path", path)]
        self._h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        self.open[stream] = Asked(kind, expected, time.monotonic())

    async def answers(self, books: Books) -> None:
        """Until all that was asked is answered. Raises EOFError when the connection ends before."""
        while self.open:
            self._writer.write(self._h2.data_to_send())
            data = await self._reader.read(1 << 18)
            if not data:
                raise EOFError("the connection ended")
            for event in self._h2.receive_data(data):
                self._take(event, books)
        self._writer.write(self._h2.data_to_send())

    def _take(self, event: Event, books: Books) -> None:
        if isinstance(event, ConnectionTerminated):
            self.last = event.last_stream_id or 0
            self.open = {stream: asked for stream, asked in self.open.items() if stream <= self.last}
            return
        stream = getattr(event, "stream_id", None) or 0
        asked = self.open.get(stream)
        if asked is None:
            return
        if isinstance(event, ResponseReceived):
            asked.status = int(dict(event.headers or ())[b":status"])
        elif isinstance(event, DataReceived):
            asked.body += event.data or b""
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, StreamEnded):
            del self.open[stream]
            if (asked.status, bytes(asked.body)) == (200, asked.expected):
                books.answered(asked.kind, asked.began)
            else:
                books.wrong(asked.kind, f"{asked.status} {bytes(asked.body[:80])!r}")
        elif isinstance(event, StreamReset):
            del self.open[stream]
            if event.error_code != ErrorCodes.REFUSED_STREAM:
                books.wrong(asked.kind, f"reset with {event.error_code}")

    def close(self) -> None:
        self._writer.close()


def ask_all(connection: Connection) -> None:
    body = os.urandom(random.randrange(1, UPLOAD_BYTES))
    connection.ask("HTTP/2", b"GET", b"/small", b"ok")
    connection.ask("HTTP/2", b"GET", b"/pieces", PIECE * PIECES)
    connection.ask("HTTP/2", b"GET", b"/native", b"ok")
    connection.ask("upload over HTTP/2", b"PUT", b"/echo", hashlib.sha256(body).hexdigest().encode(), body)


async def multiplexed(port: int, books: Books, over: asyncio.Event) -> None:
    connection: Connection | None = None
    while not over.is_set():
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if connection is None:
                    connection = Connection(*await asyncio.open_connection(HOST, port))
                ask_all(connection)
                await connection.answers(books)
        except TimeoutError:
            books.wrong("HTTP/2", f"no answer within {PATIENCE_SECONDS:g} s")
        except (OSError, EOFError, ProtocolError) as error:
            for asked in [Asked("HTTP/2", b"", 0.0)] if connection is None else connection.open.values():
                books.broke(asked.kind, error)
        if connection is not None and (connection.open or connection.last is not None):
            connection.close()
            connection = None
        await asyncio.sleep(REST_SECONDS)
    if connection is not None:
        connection.close()
