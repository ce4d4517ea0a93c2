"""A client that sends exactly the bytes it is told, and reads responses without forgiving anything."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Response:
    status: int
    head: bytes
    body: bytes
    complete: bool

    def field(self, name: bytes) -> bytes | None:
        """The value of a field that must not be there twice."""
        values = [
            line.partition(b":")[2].strip()
            for line in self.head.split(b"\r\n")[1:]
            if line.partition(b":")[0].lower() == name.lower()
        ]
        assert len(values) < 2, self.head
        return values[0] if values else None


class RawClient:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._unread = b""
        self.reset = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_what_fits(self, data: bytes) -> None:
        """As much as the gateway takes without reading on; the socket must not block."""
        view = memoryview(data)
        idle_since = time.monotonic()
        while view and time.monotonic() - idle_since < 0.2:
            try:
                sent = self.socket.send(view)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            view = view[sent:]
            idle_since = time.monotonic()

    def get(self, path: bytes = b"/", *fields: bytes) -> Response:
        lines = b"".join(field + b"\r\n" for field in fields)
        self.send(b"GET %b HTTP/1.1\r\nHost: t\r\n%b\r\n" % (path, lines))
        return self.response()

    def response(self, *, to_head: bool = False) -> Response:
        """The next response; `to_head` when it answers a HEAD."""
        while b"\r\n\r\n" not in self._unread:
            if not self._more():
                raise EOFError(f"connection closed after {self._unread!r}")
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        response = Response(int(head[9:12]), head, b"", True)
        if to_head or response.status in (204, 304) or response.status < 200:
            return response
        if response.field(b"transfer-encoding") is not None:
            assert response.field(b"transfer-encoding") == b"chunked"
            assert response.field(b"content-length") is None
            body, complete = self._chunks()
        elif response.field(b"content-length") is not None:
            size = int(response.field(b"content-length") or b"")
            body, complete = self._exactly(size)
        else:
            body, complete = self.rest(), not self.reset
        return Response(response.status, head, body, complete)

    def _exactly(self, size: int) -> tuple[bytes, bool]:
        while len(self._unread) < size and self._more():
            pass
        body, self._unread = self._unread[:size], self._unread[size:]
        return body, len(body) == size

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self._unread:
                if not self._more():
                    return body, False
            line, _, self._unread = self._unread.partition(b"\r\n")
            size = int(line, 16)
            data, whole = self._exactly(size + 2)
            body += data[:size]
            if not whole:
                return body, False
            assert data[size:] == b"\r\n"
            if size == 0:
                return body, True

    def wait_for(self, data: bytes) -> None:
        """Read on until this has arrived; it stays unread for `response`."""
        while data not in self._unread:
            if not self._more():
                raise EOFError(f"connection closed after {self._unread[-200:]!r}")

    def rest(self) -> bytes:
        """Everything until the gateway closes."""
        while self._more():
            pass
        rest, self._unread = self._unread, b""
        return rest

    def closes_within(self, seconds: float) -> bool:
        """Whether the gateway closes, and sends nothing before it does."""
        self.socket.settimeout(seconds)
        try:
            return not self._more() and not self._unread
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(10)

    def is_silent_for(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            return not self._more() and False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            self.reset = True
            return False
        self._unread += data
        return bool(data)

    def abort(self) -> None:
        """Leave with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@contextmanager
def client(port: int) -> Iterator[RawClient]:
    raw = RawClient(port)
    try:
        yield raw
    finally:
        raw.socket.close()


@contextmanager
def took(low: float, high: float) -> Iterator[None]:
    """A deadline ended it: not at once, and not never. A busy machine starts this clock late, and stretches the rest."""
    began = time.monotonic()
    yield
    elapsed = time.monotonic() - began
    assert low / 4 <= elapsed <= high + 20, f"took {elapsed:.3f} s, expected {low} to {high}"
