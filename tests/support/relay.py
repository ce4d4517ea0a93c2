"""A path between a client and a server that can fall silent without closing anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes both ways until it is `mute`; then it takes them and passes nothing. After `cut` there is nobody, until
    `mend`. What goes to the client comes `late` by so many seconds, `delays` times so far."""

    def __init__(self, port: int) -> None:
        self.mute = False
        self.late = 0.0
        self.delays = 0
        self._is_cut = False
        self.endpoint = ""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cut(self) -> None:
        self._is_cut = True
        for task in self._tasks:
            task.cancel()

    def mend(self) -> None:
        self._is_cut = self.mute = False
        self.late = 0.0

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(ConnectionError):
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer, from_server=True))
        finally:
            writer.close()
            far_writer.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool = False) -> None:
        while data := await source.read(65536):
            if from_server and self.late:
                self.delays += 1
                await asyncio.sleep(self.late)
            if not self.mute:
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """A relay to a loopback port."""
    path = Relay(port)
    server = await asyncio.start_server(path.accept, "127.0.0.1", 0)
    path.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield path
    finally:
        server.close()
        await path.close()
