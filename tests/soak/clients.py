"""The soak's clients: each does one kind of thing again and again, and knows the only right answer.

The law: nothing is tried twice. A client that keeps its connection opens another only when it was told that this one closes,
or when it broke.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.soak.books import Books
from tests.soak.multiplexed import multiplexed
from tests.soak.upstream import BIG, HOST, PIECE, PIECES

# Between two requests of a client: the machine has other things to do, and a soak is about time, not load.
REST_SECONDS = 0.005
PIPELINED = 8
PATIENCE_SECONDS = 20.0
BROKEN = (OSError, EOFError)
# Of what those who leave begin.
_REST = {
    b"GET": b" HTTP/1.1\r\nHost: soak\r\n\r\n",
    b"PUT": b" HTTP/1.1\r\nHost: soak\r\nContent-Length: 100000\r\n\r\n12345",
    b"GE": b"",
}


class Wire:
    """A connection, and a parser of responses that takes no excuses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.closes = False

    @classmethod
    async def open(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection(HOST, port, limit=1 << 21))

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        self.closes = fields.get("connection", "").lower() == "close"
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        else:
            body = await self._reader.readexactly(int(fields["content-length"]))
        return int(lines[0].split(" ")[1]), fields, body

    def close(self) -> None:
        self.writer.close()


Exchange = Callable[[Wire], Awaitable[str]]


class Clients:
    """`over` ends them; each then ends its connection in order."""

    def __init__(self, port: int, books: Books) -> None:
        self._port = port
        self._books = books
        self.over = asyncio.Event()

    def all(self) -> list[Awaitable[None]]:
        kept: dict[str, Exchange] = {
            "keep-alive": self._get(b"/small", b"ok"),
            "plugin": self._marked(b"/plugin", "x-greeting"),
            "native plugins": self._marked(b"/native", "x-native"),
            "download": self._get(b"/big", bytes(BIG)),
            "download in chunks": self._get(b"/pieces", PIECE * PIECES),
            "slow": self._get(b"/slow", b"ok"),
            "upload": self._upload,
            "upload in chunks": self._chunked,
            "pipelined": self._pipelined,
        }
        clients = [self._keeps(name, exchange) for name, exchange in kept.items() for _ in range(2)]
        clients += [self._keeps("new connection", self._get(b"/small", b"ok"), keep=False), self._leaves(), self._leaves()]
        clients += [multiplexed(self._port, self._books, self.over) for _ in range(2)]
        return [*clients, self._web_socket(), self._web_socket(), self._beats()]

    async def _beats(self) -> None:
        while not self.over.is_set():
            self._books.beat()
            await asyncio.sleep(REST_SECONDS * 4)

    async def _keeps(self, name: str, exchange: Exchange, keep: bool = True) -> None:
        wire: Wire | None = None
        while not self.over.is_set():
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    wire = await Wire.open(self._port) if wire is None else wire
                    wrong = await exchange(wire)
            except TimeoutError:
                wrong = f"no answer within {PATIENCE_SECONDS:g} s"
            except BROKEN as error:
                self._books.broke(name, error)
                _close(wire)
                wire = None
                continue
            if wrong:
                self._books.wrong(name, wrong)
            else:
                self._books.answered(name, began)
            if wrong or wire is None or wire.closes or not keep:
                _close(wire)
                wire = None
            await asyncio.sleep(REST_SECONDS)
        _close(wire)

    def _get(self, path: bytes, expected: bytes) -> Exchange:
        async def exchange(wire: Wire) -> str:
            wire.writer.write(b"GET %b HTTP/1.1\r\nHost: soak\r\n\r\n" % path)
            status, _, body = await wire.response()
            return "" if (status, body) == (200, expected) else f"{status} {body[:80]!r}"

        return exchange

    def _marked(self, path: bytes, name: str) -> Exchange:
        """Plugins write this field, and change its value all the time."""

        async def exchange(wire: Wire) -> str:
            wire.writer.write(b"GET %b HTTP/1.1\r\nHost: soak\r\n\r\n" % path)
            status, fields, body = await wire.response()
            right = (status, body) == (200, b"ok") and fields.get(name, "").startswith("value ")
            return "" if right else f"{status} {fields.get(name)} {body[:80]!r}"

        return exchange

    async def _upload(self, wire: Wire) -> str:
        body = os.urandom(random.randrange(1, 200_000))
        wire.writer.write(b"PUT /echo HTTP/1.1\r\nHost: soak\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return await self._digest(wire, body)

    async def _chunked(self, wire: Wire) -> str:
        pieces = [os.urandom(random.randrange(1, 20_000)) for _ in range(8)]
        wire.writer.write(b"PUT /echo HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            wire.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await wire.writer.drain()
        wire.writer.write(b"0\r\n\r\n")
        return await self._digest(wire, b"".join(pieces))

    async def _digest(self, wire: Wire, body: bytes) -> str:
        status, _, answer = await wire.response()
        right = (status, answer) == (200, hashlib.sha256(body).hexdigest().encode())
        return "" if right else f"{status} {answer[:80]!r}"

    async def _pipelined(self, wire: Wire) -> str:
        wire.writer.write(b"GET /small HTTP/1.1\r\nHost: soak\r\n\r\n" * PIPELINED)
        for _ in range(PIPELINED):
            status, _, body = await wire.response()
            if (status, body) != (200, b"ok"):
                return f"{status} {body[:80]!r}"
            if wire.closes:
                # What is behind this answer was not taken (RFC 9112, section 9.6), and is nobody's failure.
                break
        return ""

    async def _leaves(self) -> None:
        """In the middle of an answer, of a body, or of a head."""
        while not self.over.is_set():
            with suppress(*BROKEN):
                wire = await Wire.open(self._port)
                begin = random.choice((b"GET /big", b"GET /slow", b"PUT /echo", b"GE"))
                wire.writer.write(begin + _REST[begin[:3]])
                await asyncio.sleep(random.random() * 0.02)
                wire.writer.transport.abort()
            self._books.did("clients left")
            await asyncio.sleep(REST_SECONDS * 4)

    async def _web_socket(self) -> None:
        while not self.over.is_set():
            try:
                async with connect(f"ws://{HOST}:{self._port}/ws", proxy=None) as socket:
                    await self._talk(socket)
            except (*BROKEN, ConnectionClosed) as error:
                self._books.broke("WebSocket", error)
            except InvalidHandshake as error:
                self._books.wrong("WebSocket", repr(error))

    async def _talk(self, socket: ClientConnection) -> None:
        while not self.over.is_set():
            began, said = time.monotonic(), os.urandom(random.randrange(1, 5000))
            await socket.send(said)
            if await socket.recv() == said:
                self._books.answered("WebSocket", began)
            else:
                self._books.wrong("WebSocket", "another message came back")
            await asyncio.sleep(REST_SECONDS * 2)


def _close(wire: Wire | None) -> None:
    if wire is not None:
        wire.close()
