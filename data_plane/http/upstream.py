"""A connection to an upstream: bytes in, response events out.

The law: a response is passed on only as far as llhttp vouches for it and its head has one meaning; anything else is
`upstream_bad_response`. A connection goes back to the pool only when both messages are complete and nothing followed them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from data_plane.exchange.framing import BODILESS
from data_plane.exchange.messages import CHUNKED, ResponseHead
from data_plane.http.alive import is_quiet
from data_plane.http.chunked import ChunkedError, ChunkedReader, TrailerReader
from data_plane.http.head import HeadError, parse_response
from data_plane.http.limits import INTERIM_RESPONSES, RESPONSE_HEAD_BYTES
from data_plane.http.outbox import TOGETHER
from data_plane.http.timers import NEVER, Deadline
from data_plane.http.upgrade import accepts_websocket
from data_plane.upstream_tls.ending import has_said_so

if TYPE_CHECKING:
    from data_plane.exchange.requester import Requester
    from data_plane.http.pool import NodePool

_HEAD_END = b"\r\n\r\n"

# What is being read: nothing is due, a head, a body by length, chunks, or everything until the connection ends.
IDLE, HEAD, LENGTH, CHUNKS, REST, CLOSED = range(6)


class UpstreamConnection:
    """Made connected by the pool, which lends it to one exchange at a time."""

    __slots__ = (
        "_blocked",
        "_buffer",
        "_chunks",
        "_complete",
        "_deadline",
        "_fed",
        "_interim",
        "_loop",
        "_outbox",
        "_parser",
        "_pool",
        "_read_timeout",
        "_reading",
        "_remaining",
        "_state",
        "_transport",
        "_unsent",
        "_whole",
        "exchange",
        "idle_since",
        "requests",
        "reused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: NodePool) -> None:
        self._loop = loop
        self._pool = pool
        self._outbox = pool.outbox
        self._deadline = Deadline(loop, self._expired)
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.exchange: Requester | None = None
        self.reused = False
        self.requests = 0
        self.idle_since = 0.0
        self._state = IDLE
        # The beginning of a head, and how much of it llhttp has seen.
        self._buffer = b""
        self._fed = 0
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._complete = False
        self._whole = False
        self._interim = 0
        self._reading = True
        self._read_timeout = NEVER
        self._blocked = False
        # What there was to write when that was looked at last.
        self._unsent = 0

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self._pool.node.host}:{self._pool.node.port} requests={self.requests}>"

    # The exchange's UpstreamPort.

    @property
    def heard(self) -> bool:
        return bool(self._buffer) or self._interim > 0

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        self.exchange = exchange
        self.requests += 1
        self._state = HEAD
        self._interim = 0
        # As `Outbox.put` does it.
        outbox = self._outbox
        outbox.append((self._transport, data))
        size = len(outbox)
        if size == 1 or size >= TOGETHER:
            outbox.due(size)
        if read_timeout:
            self._read_timeout = read_timeout
            # As `Deadline.set` does it, but for the call.
            deadline = self._deadline
            when = deadline.when = self._loop.time() + read_timeout
            if when < deadline.armed:
                deadline.arm(when)
        else:
            self._read_timeout = NEVER

    def send(self, data: bytes) -> None:
        self._outbox.put(self._transport, data)

    def await_response(self, read_timeout: float) -> None:
        self._read_timeout = read_timeout
        self._deadline.set(read_timeout)

    def pause_reading(self) -> None:
        if self._state != CLOSED and self._reading:
            self._reading = False
            self._transport.pause_reading()
            self._deadline.clear()

    def resume_reading(self) -> None:
        if self._state != CLOSED and not self._reading:
            self._reading = True
            self._transport.resume_reading()
            if self._read_timeout != NEVER:
                self._deadline.set(self._read_timeout)

    def release(self) -> None:
        self.exchange = None
        if self._state == CLOSED:
            return
        # A fresh connection that was opened for nothing has had no exchange (`requests` is 0), and is as good as new.
        if not self._whole and self.requests:
            self.close()
            return
        if not self._reading:
            self.resume_reading()
        self._deadline.when = NEVER
        self._state = IDLE
        self.reused = True
        pool = self._pool
        keepalive = pool.keepalive
        if self.requests >= keepalive.requests:
            self.close()
            return
        self.idle_since = pool.now
        pool.idle.append(self)
        if len(pool.idle) > keepalive.size:
            pool.idle.popleft().close()

    def drop(self) -> None:
        """Close it, idle as it is."""
        self._pool.forget(self)
        self.close()

    def close(self) -> None:
        self.exchange = None
        if self._state != CLOSED:
            self._state = CLOSED
            self._deadline.close()
            self._pool.closed()
            # Not `close`: nothing that is still buffered matters, and an aborted upload must not look like a complete one.
            self._transport.abort()

    def is_alive(self) -> bool:
        return self._state != CLOSED and is_quiet(self._transport)

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.note(error)
        self._lost("upstream_closed")

    def eof_received(self) -> None:
        """The transport closes itself after this."""
        if self._state == REST and self.exchange is not None and has_said_so(self._transport.get_extra_info("ssl_object")):
            self._finish(b"")
        else:
            self._lost("upstream_closed")

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        if self.exchange is not None:
            self._deadline.set(self.exchange.send_timeout)
            self.exchange.upstream_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        if self.exchange is not None:
            self._deadline.clear()
            if self._read_timeout != NEVER:
                self._deadline.set(self._read_timeout)
            self.exchange.upstream_writable()

    def data_received(self, data: bytes) -> None:
        if self._state == HEAD:
            self._read_head(data)
        elif self._state == LENGTH:
            self._read_length(data)
        elif self._state == CHUNKS:
            self._read_chunks(data)
        elif self._state == REST and self.exchange is not None:
            self._touch()
            self.exchange.upstream_body(data, False)
        elif self._state == IDLE:
            # Nothing was asked: whatever it says belongs to no request.
            self._lost("upstream_bad_response")

    def on_message_complete(self) -> None:
        self._complete = True

    # Reading.

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
        # Nothing may be sent again once an answer has begun.
        self.reused = False
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

    def leave(self) -> asyncio.Transport:
        """Give the connection up to a tunnel, which tells `connection_lost` and nothing else."""
        self.exchange = None
        self._read_timeout = NEVER
        self._deadline.clear()
        return self._transport

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

    # The end.

    def _expired(self) -> None:
        if not self._blocked:
            self._lost("upstream_read_timeout")
            return
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        if self._unsent < before and self.exchange is not None:
            # It reads, if slowly: the time is that between two writes, as in nginx.
            self._deadline.set(self.exchange.send_timeout)
        else:
            self._lost("upstream_send_timeout")

    def _lost(self, kind: str) -> None:
        if self._state == CLOSED:
            return
        exchange = self.exchange
        if self._state == IDLE and exchange is None:
            self._pool.forget(self)
        self.close()
        if exchange is not None:
            exchange.upstream_lost(kind)
