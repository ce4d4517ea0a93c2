"""`python -m tests.soak.upstream PORT`: answers what the soak asks for, and goes away without breaking a response.

The law: SIGTERM lets what is being answered end, with `Connection: close`, and closes idle connections; so a gateway that fails
a request because of it has failed by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from contextlib import suppress

HOST = "127.0.0.1"
BIG = 1 << 20
PIECES, PIECE = 16, b"p" * 4096
LAST_SECONDS = 5.0


class Upstream:
    def __init__(self) -> None:
        self.stopping = False
        self._idle: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.stopping:
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass
        finally:
            self._idle.discard(writer)
            writer.close()
            # The last bytes have left.
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ", 2)[1]
        body = await _body(head.lower(), reader)
        if path == b"/slow":
            await asyncio.sleep(0.2)
        close = b"Connection: close\r\n" if self.stopping else b""
        if path == b"/pieces":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n" % close)
            for _ in range(PIECES):
                writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        else:
            said = {b"/big": bytes(BIG), b"/echo": hashlib.sha256(body).hexdigest().encode()}.get(path, b"ok")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n" % (len(said), close))
            writer.write(said)
        await writer.drain()

    def stop(self) -> None:
        self.stopping = True
        for writer in tuple(self._idle):
            writer.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return body
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    return await reader.readexactly(int(length)) if length else b""


async def main(port: int) -> None:
    upstream, stop = Upstream(), asyncio.Event()
    # Clients that leave are what this is about.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(upstream.serve, HOST, port, limit=1 << 20)
    await stop.wait()
    server.close()
    upstream.stop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=LAST_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
