"""The chunked coding, decoded by llhttp, with the message's end found without a framer of our own.

The law: llhttp cannot be paused, but a chunked body can only end right behind CR LF CR LF (the last chunk, or the trailers), so
it is fed piece by piece up to each of those; when it reports the end, it is at the end of a piece and the rest is another
message's. Extensions are dropped, and trailers but for a TrailerReader; both are bounded by what the body's size excuses.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpRequestParser

from data_plane.http.limits import CHUNK_OVERHEAD_BYTES, CHUNK_OVERHEAD_PER_BODY_BYTE

# llhttp reads bodies behind a head only.
_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"\r\n\r\n"


# What a receiver that merges trailers into the head would take for framing, routing, identity, or the meaning of the body
# (RFC 9110, section 6.5.1).
NO_TRAILERS = frozenset(
    (
        *(b"connection", b"content-length", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"keep-alive"),
        *(b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"proxy", b"http2-settings"),
        *(b"host", b"expect", b"max-forwards", b"range", b"authorization", b"cookie", b"set-cookie", b"www-authenticate"),
        *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip"),
        *(b"content-type", b"content-encoding", b"content-range", b"location", b"cache-control", b"age", b"vary"),
    )
)


class ChunkedError(ValueError):
    """The coding is malformed, or hides more than it carries."""


class ChunkedReader:
    """For one message."""

    __slots__ = ("_budget", "_done", "_parser", "_pieces", "_tail")

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_HEAD)
        self._pieces: list[bytes] = []
        self._done = False
        self._tail = b""
        self._budget = CHUNK_OVERHEAD_BYTES

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._done = True

    def feed(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """(decoded bytes, whether the body is complete, the bytes behind it); raises ChunkedError."""
        start = 0
        size = len(data)
        try:
            while start < size and not self._done:
                end = self._next_end(data, start)
                self._parser.feed_data(data if start == 0 and end == size else data[start:end])
                start = end
        except HttpParserError as error:
            raise ChunkedError(str(error)) from error
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._tail = (self._tail + data[-3:])[-3:]
        self._budget += (CHUNK_OVERHEAD_PER_BODY_BYTE + 1) * len(body) - start
        if self._budget < 0:
            raise ChunkedError("more extensions and trailers than the body excuses")
        return body, self._done, data[start:]

    def _next_end(self, data: bytes, start: int) -> int:
        """The index behind the next CR LF CR LF, which may have begun in the data before; else the end of the data."""
        if start == 0 and self._tail:
            seam = (self._tail + data[:3]).find(_END)
            if seam >= 0:
                return seam + 4 - len(self._tail)
        found = data.find(_END, start)
        # An end may overlap the one before it (CR LF CR LF CR LF), but never begins before `start`: two share at most a CR LF,
        # and a message that ends there was complete at the first.
        return len(data) if found < 0 else found + 4


class TrailerReader(ChunkedReader):
    """`lines` are the trailers, as field lines."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines = b""
        super().__init__()
        # The head that was fed above has a field.
        self.lines = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower().replace(b"_", b"-") not in NO_TRAILERS:
            self.lines += b"%b: %b\r\n" % (name, value)
