"""A small HTTP/1.1 upstream to try the gateway with: `python deploy/example/upstream.py --listen 127.0.0.1:9099`.

The law: `/hello` answers `hello world`; every other path answers with the request as it arrived, so that one sees what
the gateway and its plugins made of it. Standard library only; no substitute for a real server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from asyncio import StreamReader, StreamWriter

# A request head or body above this is answered with 413: this is a toy upstream, not a store.
LIMIT_BYTES = 1 << 20


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    """Serve one connection until the client closes it, asks for that, or breaks the protocol."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
        while await answer(reader, writer):
            pass
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def answer(reader: StreamReader, writer: StreamWriter) -> bool:
    """One request and its response; False when the connection is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return await send(writer, 413, b"the head is too large\n", keep=False)
    request_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    words = request_line.split(" ")
    if len(words) != 3:
        return await send(writer, 400, b"not a request line\n", keep=False)
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    body = await read_body(reader, dict(fields))
    if body is None:
        return await send(writer, 413, b"the body is too large\n", keep=False)
    keep = words[2] == "HTTP/1.1" and dict(fields).get("connection", "").lower() != "close"
    return await send(writer, 200, content(words[0], words[1], fields, body), keep, words[0] == "HEAD")


def content(method: str, target: str, fields: list[tuple[str, str]], body: bytes) -> bytes:
    if target.partition("?")[0] == "/hello":
        return b"hello world\n"
    head = [f"{method} {target}", *(f"{name}: {value}" for name, value in fields)]
    return "\n".join(head).encode("latin-1") + b"\n\n" + body


async def read_body(reader: StreamReader, fields: dict[str, str]) -> bytes | None:
    """None when it is over the limit."""
    if "chunked" not in fields.get("transfer-encoding", ""):
        length = fields.get("content-length", "0")
        if not length.isdigit() or int(length) > LIMIT_BYTES:
            return None
        return await reader.readexactly(int(length))
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        if len(body) + size > LIMIT_BYTES:
            return None
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return body


async def send(writer: StreamWriter, status: int, body: bytes, keep: bool, head_only: bool = False) -> bool:
    reason = {200: "OK", 400: "Bad Request", 413: "Content Too Large"}[status]
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Connection: {'keep-alive' if keep else 'close'}",
    ]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + (b"" if head_only else body))
    await writer.drain()
    return keep


async def serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(converse, host, port, limit=LIMIT_BYTES)
    async with server:
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="A small HTTP/1.1 upstream to try the gateway with.")
    parser.add_argument("--listen", default="127.0.0.1:9099", metavar="HOST:PORT")
    listen = parser.parse_args().listen
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--listen: expected HOST:PORT, got {listen!r}")
    try:
        asyncio.run(serve(host.strip("[]"), int(port)))
    except OSError as error:
        parser.exit(1, f"upstream: cannot listen on {listen}: {error.strerror}\n")


if __name__ == "__main__":
    main()
