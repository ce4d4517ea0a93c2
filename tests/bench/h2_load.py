"""What wrk is for HTTP/1: asks over HTTP/2 for every route in turn, with requests that are made once.

The law: the client costs little beside the proxy, so it knows no more of HTTP/2 than it needs: its own blocks, and which frames
end an answer. An answer whose head does not begin with the status 200 of the static table is an error.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

HOST = "127.0.0.1"
# As many requests at once as wrk has connections.
CONNECTIONS = 4
STREAMS = 8
# Names that lie in the static table, values as in load.py; the first block puts them into the table, the others refer to it.
_FIELDS = ((1, b"127.0.0.1"), (58, b"bench/1.0"), (19, b"*/*"))
_FIRST = b"".join(bytes((0x40 | index, len(value))) + value for index, value in _FIELDS)
_AGAIN = b"\xc0\xbf\xbe"
# SETTINGS and WINDOW_UPDATE: windows that never close.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff\0\0\4\x08\0\0\0\0\0\x7f\0\0\0"
_ACK = b"\0\0\0\4\1\0\0\0\0"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_LAST = 1 << 30


class Load:
    """All connections of a run."""

    def __init__(self, port: int, routes: int, resource: str) -> None:
        self._port = port
        paths = (f"/route-{number}/{resource}".encode() for number in range(routes))
        self._requests = [b"\x82\x86\x04" + bytes((len(path),)) + path for path in paths]
        self._turn = 0
        self.errors = {"connect": 0, "read": 0, "status": 0}
        self.milliseconds: list[float] = []
        self.running = True

    def request(self) -> bytes:
        self._turn = (self._turn + 1) % len(self._requests)
        return self._requests[self._turn]

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), HOST, self._port)

    def report(self, seconds: float) -> dict[str, object]:
        ordered = sorted(self.milliseconds)
        p99 = ordered[int(len(ordered) * 0.99)] if ordered else 0.0
        times = {"microseconds": round(seconds * 1e6), "p99_microseconds": round(p99 * 1e3)}
        return {"requests": len(ordered), **times, "errors": self.errors}


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self._load = load
        self._rest = b""
        self._next = 1
        self._began: dict[int, float] = {}
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_HELLO + b"".join(self._ask() for _ in range(STREAMS)))

    def _ask(self) -> bytes:
        stream, self._next = self._next, self._next + 2
        block = self._load.request() + (_FIRST if stream == 1 else _AGAIN)
        self._began[stream] = time.perf_counter()
        return len(block).to_bytes(3, "big") + b"\1\5" + stream.to_bytes(4, "big") + block

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, answers = 0, []
        while len(data) - at >= 9 and len(data) - at >= 9 + (size := int.from_bytes(data[at : at + 3], "big")):
            answers.append(self._frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big"), data[at + 9]))
            at += 9 + size
        self._rest = data[at:]
        asked = b"".join(answers)
        if asked:
            self._transport.write(asked)

    def _frame(self, kind: int, flags: int, stream: int, first: int) -> bytes:
        """What is said to it."""
        load = self._load
        if kind == _SETTINGS:
            return b"" if flags else _ACK
        if kind == _GOAWAY:
            # The connection has had its requests; the next one is a new one.
            return b""
        if kind == _RESET or (kind == _HEADERS and first != 0x88):
            load.errors["status"] += 1
        if kind not in (_DATA, _HEADERS) or not flags & 1 or stream not in self._began:
            return b""
        load.milliseconds.append((time.perf_counter() - self._began.pop(stream)) * 1e3)
        return self._ask() if load.running and self._next < _LAST else b""

    def connection_lost(self, error: Exception | None) -> None:
        if self._load.running:
            task = asyncio.ensure_future(self._load.connect())
            task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        if task.exception() is not None:
            self._load.errors["connect"] += 1


async def run(port: int, seconds: float, routes: int, resource: str) -> dict[str, object]:
    load = Load(port, routes, resource)
    began = time.perf_counter()
    await asyncio.gather(*(load.connect() for _ in range(CONNECTIONS)))
    await asyncio.sleep(seconds)
    load.running = False
    return load.report(time.perf_counter() - began)


def main() -> None:
    port, seconds, routes, resource = sys.argv[1:]
    sys.stdout.write(json.dumps(uvloop.run(run(int(port), float(seconds), int(routes), resource))) + "\n")


if __name__ == "__main__":
    main()
