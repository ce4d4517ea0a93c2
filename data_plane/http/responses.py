"""An upstream connection's reading half: from bytes to a response, and to the pieces of its body.

The law: a response is passed on only as far as llhttp vouches for it and its head has one meaning; anything else is
`upstream_bad_response`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import BODILESS
from data_plane.exchange.messages import CHUNKED, ResponseHead
from data_plane.http.chunked import ChunkedError, ChunkedReader, TrailerReader
from data_plane.http.head import HeadError, parse_response
from data_plane.http.limits import INTERIM_RESPONSES, RESPONSE_HEAD_BYTES
from data_plane.http.timers import NEVER, Deadline
from data_plane.http.upgrade import accepts_websocket

if TYPE_CHECKING:
    from data_plane.exchange.requester import Requester

_HEAD_END = b"\r\n\r\n"

# What is being read: nothing is due, a head, a body by length, chunks, or everything until the connection ends.
IDLE, HEAD, LENGTH, CHUNKS, REST, CLOSED = range(6)


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseReader:
    """Base of the connection, which says what becomes of it. `_whole`: nothing but the response has come."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_complete",
        "_deadline",
        "_fed",
        "_interim",
        "_parser",
        "_read_timeout",
        "_remaining",
        "_state",
        "_whole",
        "exchange",
    )

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._parser = HttpResponseParser(self)
        self.exchange: Requester | None = None
        self._state = IDLE
        # The beginning of a head, and how much of it llhttp has seen.
        self._buffer = b""
        self._fed = 0
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._complete = False
        self._whole = False
        self._interim = 0
        self._read_timeout = NEVER

    def pause_reading(self) -> None:
        raise NotImplementedError

    def _lost(self, kind: str) -> None:
        """What came is no response."""
        raise NotImplementedError

    def on_message_complete(self) -> None:
        self._complete = True

    def _touch(self) -> None:
        if self._read_timeout != NEVER:
            self._deadline.set(self._read_timeout)

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        end = data.find(_HEAD_END)
        try:
            if 0 <= end <= RESPONSE_HEAD_BYTES:
                self._read_response(parse_response(data[: end + 2]), data, end + 4)
            else:
                self._read_partial_head(data)
        except (HeadError, HttpParserError, HttpParserUpgrade):
            self._lost("upstream_bad_response")

    def _read_partial_head(self, data: bytes) -> None:
        """Let llhttp see what there is: nonsense is answered now, not when the upstream's silence times out."""
        if len(data) > RESPONSE_HEAD_BYTES or not data.startswith(b"HTTP/1."[: len(data)]):
            raise HeadError("upstream_bad_response")
        self._parser.feed_data(data[self._fed :])
        self._fed = len(data)
        self._buffer = data
        self._touch()

    def _read_response(self, response: ResponseHead, data: bytes, start: int) -> None:
        """What lies behind the head depends on what the head says: feed llhttp this one message and no more."""
        exchange = self.exchange
        if exchange is None:
            return
        status = response.status
        if status < 200:
            self._read_interim(exchange, response, data, start)
            return
        bodiless = status in BODILESS or exchange.head.method == b"HEAD"
        length = 0 if bodiless else response.length
        if length < 0:
            self._read_open_ended(exchange, response, data, start)
            return
        size = len(data)
        end = start + length
        fed = self._fed
        self._fed = 0
        self._complete = False
        self._parser.feed_data(data if size == end and not fed else data[fed:end])
        if self._complete is not (size >= end):
            if not bodiless:
                raise HttpParserError("llhttp sees another end of the message")
            # It does not know that the request was HEAD, and waits for the body.
            self._parser = HttpResponseParser(self)
        if size >= end:
            self._whole = response.keep_alive and size == end
            self._state = IDLE
            exchange.upstream_response(response, data[start:end], True)
            return
        self._state = LENGTH
        self._whole = response.keep_alive
        self._remaining = end - size
        self._touch()
        exchange.upstream_response(response, data[start:], False)

    def _read_open_ended(self, exchange: Requester, response: ResponseHead, data: bytes, start: int) -> None:
        """Chunks, or a body that ends with the connection: llhttp sees the head here, the chunks in their reader."""
        self._parser.feed_data(data[self._fed : start])
        self._parser = HttpResponseParser(self)
        self._fed = 0
        self._touch()
        if response.length != CHUNKED:
            self._state = REST
            self._whole = False
            exchange.upstream_response(response, data[start:], False)
            return
        self._state = CHUNKS
        self._whole = response.keep_alive
        self._chunks = TrailerReader() if exchange.keeps_trailers else ChunkedReader()
        body, done = self._take_chunks(self._chunks, data[start:])
        exchange.upstream_response(response, body, done)

    def _read_interim(self, exchange: Requester, response: ResponseHead, data: bytes, start: int) -> None:
        self._interim += 1
        if response.status == 101:
            self._read_switch(exchange, response, data, start)
            return
        if self._interim > INTERIM_RESPONSES:
            raise HeadError("upstream_bad_response")
        self._parser.feed_data(data[self._fed : start])
        self._fed = 0
        if response.status != 100:
            # The client has had that from the gateway, if it asked.
            exchange.upstream_interim(response)
        if len(data) > start and self._state == HEAD:
            self._read_head(data[start:])

    def _read_switch(self, exchange: Requester, response: ResponseHead, data: bytes, start: int) -> None:
        if not exchange.upgrades() or not accepts_websocket(self._parser, data[:start], self._fed):
            raise HeadError("upstream_bad_response")
        self.pause_reading()
        self._state = REST
        exchange.upstream_switched(response, data[start:])

    def _read_length(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        remaining = self._remaining
        size = len(data)
        self._complete = False
        try:
            self._parser.feed_data(data if size <= remaining else data[:remaining])
            if self._complete is not (size >= remaining):
                raise HttpParserError("llhttp sees another end of the message")
        except HttpParserError:
            self._lost("upstream_bad_response")
            return
        if size < remaining:
            self._remaining = remaining - size
            self._touch()
            exchange.upstream_body(data, False)
            return
        self._whole = self._whole and size == remaining
        self._finish(data[:remaining])

    def _take_chunks(self, reader: ChunkedReader, data: bytes) -> tuple[bytes, bool]:
        try:
            body, done, rest = reader.feed(data)
        except ChunkedError as error:
            raise HeadError("upstream_bad_response") from error
        if done:
            self._state = IDLE
            self._chunks = None
            self._whole = self._whole and not rest
            if isinstance(reader, TrailerReader) and self.exchange is not None:
                self.exchange.upstream_trailers(reader.lines)
        return body, done

    def _read_chunks(self, data: bytes) -> None:
        reader = self._chunks
        if reader is None or self.exchange is None:
            return
        try:
            body, done = self._take_chunks(reader, data)
        except HeadError:
            self._lost("upstream_bad_response")
            return
        self._touch()
        if body or done:
            self.exchange.upstream_body(body, done)

    def _finish(self, data: bytes) -> None:
        exchange = self.exchange
        self._state = IDLE
        if exchange is not None:
            exchange.upstream_body(data, True)
