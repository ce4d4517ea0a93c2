"""A client connection's reading half: from bytes to requests, and to the pieces of their bodies.

The law: where a message ends is known before a byte of the next is looked at, and llhttp, which is fed one message at a time,
must see the same end. What is refused is refused as soon as it is seen, not when somebody's patience ends.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from mypy_extensions import mypyc_attr

from data_plane.exchange.messages import RequestFields, RequestHead
from data_plane.http import limits
from data_plane.http.chunked import ChunkedError, ChunkedReader, TrailerReader
from data_plane.http.forwarded import Forwarding
from data_plane.http.head import NO_FIELDS, HeadError, parse_request
from data_plane.http.timers import NEVER, Deadline
from data_plane.http.upgrade import offers_websocket

_HEAD_END = b"\r\n\r\n"
_CR = 13

# What is being read: a head (or nothing yet), a body by length, chunks; WAIT: the request is complete and being answered.
HEAD, LENGTH, CHUNKS, WAIT, LINGER, CLOSED = range(6)


# Of a connection that has ended: reads nothing.
SPENT = HttpRequestParser(object())
# The one after these is the last of its connection.
MOST_REQUESTS = limits.CONNECTION_REQUESTS - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestReader:
    """Base of the connection, which says what becomes of what is read."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_complete",
        "_deadline",
        "_fed",
        "_forwarded",
        "_known",
        "_parser",
        "_remaining",
        "_requests",
        "_state",
        "_trailers",
    )

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._parser = HttpRequestParser(self)
        self._state = HEAD
        # Bytes that are not used yet, and how many of them llhttp has seen.
        self._buffer = b""
        self._fed = 0
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._trailers = b""
        self._complete = False
        self._requests = 0
        # The fields of the last request.
        self._known: RequestFields = NO_FIELDS
        self._forwarded = Forwarding("", 0).lines

    def _begin(self, request: RequestHead, body: bytes) -> None:
        """A request, and the beginning of its body: all of it in the state WAIT."""
        raise NotImplementedError

    def _begin_upgrade(self, request: RequestHead) -> None:
        """A request that offers WebSocket, and has no body."""
        raise NotImplementedError

    def _continue(self, body: bytes, eos: bool) -> None:
        raise NotImplementedError

    def _end(self, trailers: bytes) -> None:
        raise NotImplementedError

    def _wants_trailers(self) -> bool:
        """Somebody may read what comes behind a request's chunks."""
        raise NotImplementedError

    def _refuse(self, kind: str) -> None:
        """What came is no request."""
        raise NotImplementedError

    def _break(self, kind: str) -> None:
        """The body of the request that began is malformed."""
        raise NotImplementedError

    def on_message_complete(self) -> None:
        self._complete = True

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if data[0] == _CR:
            data = self._skip_empty_lines(data)
            if not data:
                return
        end = data.find(_HEAD_END)
        if end < 0:
            self._read_partial_head(data)
            return
        end += 4
        fed = self._fed
        if end > limits.REQUEST_HEAD_BYTES:
            self._refuse(_too_large(data))
            return
        self._fed = 0
        self._complete = False
        try:
            self._parser.feed_data(data[fed:end])
            request = parse_request(data[: end - 2], self._known, self._forwarded)
        except (HttpParserUpgrade, HttpParserError, HeadError) as error:
            self._read_unusual_head(error, data, end)
        else:
            fields = self._known = request.fields
            if fields.length or not self._complete or end < len(data) or self._requests >= MOST_REQUESTS:
                self._take(request, data, end)
                return
            # As `_take` does it: most requests are a head and nothing more.
            self._requests += 1
            self._state = WAIT
            self._buffer = b""
            self._deadline.when = NEVER
            self._begin(request, b"")

    def _read_unusual_head(self, error: Exception, data: bytes, end: int) -> None:
        if isinstance(error, HttpParserUpgrade):
            self._read_upgrade(data, end)
        else:
            self._refuse(error.kind if isinstance(error, HeadError) else "bad_request")

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """What begins a head; empty when there is nothing to go on with."""
        for _ in range(limits.EMPTY_LINES):
            data = data.removeprefix(b"\r\n")
        self._buffer = b""
        if data == b"\r":
            self._buffer = data
            return b""
        if data[:1] == b"\r":
            self._refuse("bad_request")
            return b""
        return data

    def _read_partial_head(self, data: bytes) -> None:
        """Let llhttp see what there is: nonsense is refused now, not when the client's patience or ours ends."""
        if len(data) > limits.REQUEST_HEAD_BYTES:
            self._refuse(_too_large(data))
            return
        if not self._buffer:
            self._deadline.set(limits.HEAD_SECONDS)
        try:
            self._parser.feed_data(data[self._fed :])
        except HttpParserError:
            self._refuse("bad_request")
            return
        self._fed = len(data)
        self._buffer = data

    def _read_upgrade(self, data: bytes, end: int) -> None:
        """llhttp takes everything behind this head for another protocol. What follows is HTTP unless the upstream agrees, and
        an offer of anything but WebSocket is declined by ignoring it (RFC 9110, section 7.8): so a new parser, told of the body
        if there is one.
        """
        try:
            request = parse_request(data[: end - 2], NO_FIELDS, self._forwarded)
        except HeadError as error:
            self._refuse(error.kind)
            return
        self._parser = HttpRequestParser(self)
        if offers_websocket(request, data[:end]):
            self._take_offer(request, data[end:])
            return
        if request.fields.length > 0:
            self._complete = False
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % request.fields.framing)
        self._take(request, data, end)

    def _take(self, request: RequestHead, data: bytes, end: int) -> None:
        self._requests += 1
        if self._requests > MOST_REQUESTS:
            request.close_after()
        length = request.fields.length
        body = data[end:]
        try:
            if length == 0:
                self._state = WAIT
                self._buffer = body
                self._deadline.when = NEVER
                body = b""
                if not self._complete:
                    raise HeadError("bad_framing")
            elif length > limits.BODY_BYTES:
                raise HeadError(limits.BODY_REFUSAL)
            elif length > 0:
                self._state = LENGTH
                self._remaining = length
                body = self._take_length(body)
            else:
                self._state = CHUNKS
                self._remaining = limits.BODY_BYTES
                self._parser = HttpRequestParser(self)
                self._chunks = TrailerReader() if self._wants_trailers() else ChunkedReader()
                body = self._take_chunks(body)
                if self._trailers:
                    self._begin_ended(request, body)
                    return
        except HeadError as error:
            self._refuse(error.kind)
            return
        self._begin(request, body)

    def _take_offer(self, request: RequestHead, rest: bytes) -> None:
        self._requests += 1
        if self._requests > MOST_REQUESTS:
            request.close_after()
        self._state = WAIT
        self._buffer = rest
        self._deadline.clear()
        self._begin_upgrade(request)

    def _take_length(self, data: bytes) -> bytes:
        """The body's share of the data; the state is WAIT when that completes it."""
        remaining = self._remaining
        size = len(data)
        mine = data if size <= remaining else data[:remaining]
        self._complete = False
        try:
            self._parser.feed_data(mine)
        except HttpParserError as error:
            raise HeadError("bad_framing") from error
        if self._complete is not (size >= remaining):
            raise HeadError("bad_framing")
        if size < remaining:
            self._remaining = remaining - size
            self._buffer = b""
            self._deadline.set(limits.BODY_IDLE_SECONDS)
        else:
            self._state = WAIT
            self._buffer = data[remaining:]
            self._deadline.clear()
        return mine

    def _take_chunks(self, data: bytes) -> bytes:
        reader = self._chunks
        if reader is None:
            return b""
        try:
            body, done, rest = reader.feed(data)
        except ChunkedError as error:
            raise HeadError("bad_framing") from error
        self._buffer = rest
        self._remaining -= len(body)
        if self._remaining < 0:
            raise HeadError("body_too_large")
        if done:
            self._chunks = None
            self._state = WAIT
            self._deadline.clear()
            if isinstance(reader, TrailerReader):
                self._trailers = reader.lines
        else:
            self._deadline.set(limits.BODY_IDLE_SECONDS)
        return body

    def _read_body(self, data: bytes) -> None:
        if self._state != LENGTH:
            self._read_chunks(data)
            return
        try:
            body = self._take_length(data)
        except HeadError as error:
            self._break(error.kind)
            return
        eos = self._state == WAIT
        if body or eos:
            self._continue(body, eos)

    def _read_chunks(self, data: bytes) -> None:
        try:
            body = self._take_chunks(data)
        except HeadError as error:
            self._break(error.kind)
            return
        eos = self._state == WAIT
        if self._trailers:
            self._end_body(body)
        elif body or eos:
            self._continue(body, eos)

    def _begin_ended(self, request: RequestHead, body: bytes) -> None:
        """A request that is here in full, with trailers: it begins as if they were still to come."""
        self._state = CHUNKS
        self._begin(request, body)
        if self._state == CHUNKS:
            self._state = WAIT
            self._end_body(b"")

    def _end_body(self, body: bytes) -> None:
        lines, self._trailers = self._trailers, b""
        if body:
            self._continue(body, False)
        self._end(lines)


def _too_large(data: bytes) -> str:
    """Which limit a head over its size broke: the target's, if the start line alone is too long."""
    line = data.find(b"\r\n")
    return "target_too_long" if line < 0 or line > limits.TARGET_BYTES + 64 else "head_too_large"
