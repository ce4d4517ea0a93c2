"""The ways by which clients come in to a worker.

The law: shut doors turn nobody away: who comes meanwhile waits in the queue of the socket, which stays open, and is let in when
the doors open again, here or in the worker that takes over.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

# Accepts on a socket of its own, which it closes with itself.
Opener = Callable[[socket.socket], Awaitable[asyncio.Server]]


class Doors:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._openers: list[tuple[socket.socket, Opener]] = []
        self._servers: list[asyncio.Server] = []
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, listener: socket.socket, opener: Opener) -> None:
        self._openers.append((listener, opener))

    async def open(self) -> None:
        """Raises OSError when there is no file left for it; what was opened until then is open."""
        for listener, opener in self._openers[len(self._servers) :]:
            server = await opener(listener.dup())
            if self._closed:
                server.close()
                return
            self._servers.append(server)

    def open_soon(self, failed: Callable[[], None]) -> None:
        """For whoever cannot wait."""

        async def opening() -> None:
            try:
                await self.open()
            except OSError:
                self.shut()
                failed()

        if self._opening is None or self._opening.done():
            self._opening = self._loop.create_task(opening(), name="open doors")

    def shut(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def close(self) -> None:
        """For good."""
        self._closed = True
        self.shut()
        for listener, _ in self._openers:
            listener.close()
