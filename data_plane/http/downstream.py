"""A connection from a client: bytes in, request events out; the exchange's words out as bytes.

The law: one request is answered at a time, in order; bytes behind it wait. Where a message ends is known before a byte of the
next is looked at. After a refusal, or an answer to an unfinished request, nothing more is read as a request: the rest is read
and thrown away for a while, so that the client gets to read the answer before the connection resets.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from data_plane.exchange.forwarded import Forwarding
from data_plane.exchange.framing import CLOSE_LINE, length_line
from data_plane.exchange.messages import RequestHead
from data_plane.exchange.opening import open_exchange
from data_plane.exchange.replies import reply_for
from data_plane.http import limits
from data_plane.http.chunked import ChunkedError, ChunkedReader
from data_plane.http.head import HeadError, parse_request
from data_plane.http.timers import NEVER, Deadline

if TYPE_CHECKING:
    from data_plane.exchange.exchange import Exchange
    from data_plane.http.listener import Gateway

_HEAD_END = b"\r\n\r\n"
_CR = 13

# What is being read: a head (or nothing yet), a body by length, chunks; WAIT: the request is complete and being answered.
HEAD, LENGTH, CHUNKS, WAIT, LINGER, CLOSED = range(6)


# The one after these is the last of its connection.
MOST_REQUESTS = limits.CONNECTION_REQUESTS - 1


class ClientConnection(asyncio.Protocol):
    """One per accepted connection; it is also its exchanges' ClientPort."""

    __slots__ = (
        "_blocked",
        "_buffer",
        "_chunks",
        "_complete",
        "_deadline",
        "_exchange",
        "_fed",
        "_gateway",
        "_linger_until",
        "_loop",
        "_parser",
        "_reading",
        "_remaining",
        "_requests",
        "_requests_seen",
        "_state",
        "_sweeps",
        "_transport",
        "client_address",
        "connection_id",
        "forwarding",
        "local_address",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = gateway.loop
        self._transport: asyncio.Transport
        self._parser = HttpRequestParser(self)
        self._deadline = Deadline(self._loop, self._expired)
        self._exchange: Exchange | None = None
        self._state = HEAD
        # Bytes that are not used yet, and how many of them llhttp has seen.
        self._buffer = b""
        self._fed = 0
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._complete = False
        self._requests = 0
        self._requests_seen = 0
        self._sweeps = 0
        self._reading = True
        self._blocked = False
        self._linger_until = 0.0
        self.connection_id = 0
        self.client_address = ("", 0)
        self.local_address = ("", 0)
        self.forwarding = Forwarding("", 0)

    def __repr__(self) -> str:
        return f"<ClientConnection {self.client_address} requests={self._requests} state={self._state}>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        self.client_address = (peer[0], peer[1])
        self.local_address = (local[0], local[1])
        self.forwarding = Forwarding(peer[0], local[1])
        self._deadline.set(limits.HEAD_SECONDS)
        self.connection_id = self._gateway.admit(self)
        if not self.connection_id:
            self._refuse("overloaded")

    def connection_lost(self, error: Exception | None) -> None:
        self._gateway.dismiss(self)
        self._deadline.close()
        self._state = CLOSED
        exchange = self._exchange
        self._exchange = None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """A client that closes its half is taken to have left; the transport closes itself after this."""
        exchange = self._exchange
        self._exchange = None
        self._state = CLOSED
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._blocked = True
        self._deadline.set(limits.SEND_SECONDS)
        if self._exchange is not None:
            self._exchange.client_blocked()

    def resume_writing(self) -> None:
        self._blocked = False
        self._deadline.clear()
        if self._exchange is not None:
            self._exchange.client_writable()
        elif self._state == HEAD:
            self._next()

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == HEAD:
            self._read_head(data)
        elif state in (LENGTH, CHUNKS):
            self._read_body(data)
        elif state == WAIT:
            self._buffer += data
            if len(self._buffer) > limits.PIPELINE_BYTES:
                self._pause()
        elif state == LINGER:
            self._linger()

    def on_message_complete(self) -> None:
        self._complete = True

    # The exchange's ClientPort.

    def send(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_body(self) -> None:
        if self._state in (LENGTH, CHUNKS):
            self._pause()
            self._deadline.clear()

    def resume_body(self) -> None:
        self._resume()
        if self._state in (LENGTH, CHUNKS):
            self._deadline.set(limits.BODY_IDLE_SECONDS)

    def finish(self, data: bytes, keep_alive: bool) -> None:
        if data:
            self._transport.write(data)
        self._exchange = None
        if not keep_alive:
            self._finish()
        elif self._state == WAIT:
            self._state = HEAD
            if self._buffer or self._blocked or self._gateway.draining:
                self._next()

    def cut(self, hard: bool) -> None:
        self._exchange = None
        if hard:
            self._state = CLOSED
            # Lingering for no time is what makes the kernel send a reset.
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._transport.abort()
        else:
            self._close()

    def unix_time_ns(self) -> int:
        return time.time_ns()

    # What the gateway asks.

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer is still to be written."""
        return self._exchange is not None or (self._state == CLOSED and self._transport.get_write_buffer_size() > 0)

    def sweep(self, idle_sweeps: int) -> None:
        """Looked at every now and then: close if no request came since so many looks ago."""
        if self._state != HEAD or self._buffer or self._requests != self._requests_seen:
            self._requests_seen = self._requests
            self._sweeps = 0
            return
        self._sweeps += 1
        # Before the first request the head's deadline rules.
        if self._sweeps > idle_sweeps and self._requests:
            self._expired()

    def drain(self) -> None:
        """The worker is going away: close if nothing has been asked."""
        if self._state == HEAD and not self._buffer:
            self._close()

    def stop(self) -> None:
        """The worker's time is over."""
        self._transport.abort()

    # Reading.

    def _next(self) -> None:
        """Ready for a request: one that is here already is taken in the loop's next round, not deeper in this stack."""
        if self._blocked:
            return
        if self._buffer:
            self._deadline.set(limits.HEAD_SECONDS)
            self._resume()
            self._loop.call_soon(self._read_buffered)
        elif self._gateway.draining:
            self._close()

    def _read_buffered(self) -> None:
        if self._state == HEAD and self._buffer and not self._fed:
            data = self._buffer
            self._buffer = b""
            self._read_head(data)

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
            request = parse_request(data[: end - 2])
        except HttpParserUpgrade:
            self._read_upgrade(data, end)
        except HttpParserError:
            self._refuse("bad_request")
        except HeadError as error:
            self._refuse(error.kind)
        else:
            if request.length or not self._complete or end < len(data) or self._requests >= MOST_REQUESTS:
                self._begin(request, data, end)
                return
            # As `_begin` does it: most requests are a head and nothing more.
            self._requests += 1
            self._state = WAIT
            self._buffer = b""
            self._deadline.when = NEVER
            gateway = self._gateway
            gateway.counters.requests += 1
            exchange = self._exchange = open_exchange(gateway, self, request)
            exchange.start(b"", True)

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
        """llhttp takes everything behind this head for another protocol. The offer is declined by ignoring it (RFC 9110 7.8),
        so what follows is HTTP: a new parser, told of the body if there is one.
        """
        try:
            request = parse_request(data[: end - 2])
        except HeadError as error:
            self._refuse(error.kind)
            return
        self._parser = HttpRequestParser(self)
        if request.length > 0:
            self._complete = False
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % request.framing)
        self._begin(request, data, end)

    def _begin(self, request: RequestHead, data: bytes, end: int) -> None:
        self._requests += 1
        if self._requests > MOST_REQUESTS:
            request.keep_alive = False
        length = request.length
        body = data[end:]
        try:
            if length == 0:
                self._state = WAIT
                self._buffer = body
                self._deadline.when = NEVER
                body = b""
                if not self._complete:
                    raise HeadError("bad_framing")
            elif length > 0:
                self._state = LENGTH
                self._remaining = length
                body = self._take_length(body)
            else:
                self._state = CHUNKS
                self._parser = HttpRequestParser(self)
                self._chunks = ChunkedReader()
                body = self._take_chunks(body)
        except HeadError as error:
            self._refuse(error.kind)
            return
        self._gateway.counters.requests += 1
        exchange = self._exchange = open_exchange(self._gateway, self, request)
        exchange.start(body, self._state == WAIT)

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
        if done:
            self._chunks = None
            self._state = WAIT
            self._deadline.clear()
        else:
            self._deadline.set(limits.BODY_IDLE_SECONDS)
        return body

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            body = self._take_length(data) if self._state == LENGTH else self._take_chunks(data)
        except HeadError as error:
            exchange.client_failed(error.kind)
            return
        eos = self._state == WAIT
        if body or eos:
            exchange.request_body(body, eos)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # The end.

    def _refuse(self, kind: str) -> None:
        """Answer what cannot become an exchange, and read no further request."""
        reply = reply_for(kind)
        counters = self._gateway.counters
        counters.requests += 1
        counters.responses[reply.status // 100] += 1
        self._transport.write(b"%b%b%b\r\n%b" % (reply.head, length_line(len(reply.body)), CLOSE_LINE, reply.body))
        self._linger()

    def _finish(self) -> None:
        """The last response is out. What the client is still sending must be read, or its unread bytes reset the connection."""
        if self._state == WAIT and not self._buffer:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        now = self._loop.time()
        if self._state != LINGER:
            self._state = LINGER
            self._buffer = b""
            self._linger_until = now + limits.LINGER_SECONDS
            self._resume()
            if self._transport.can_write_eof() and not self._transport.is_closing():
                self._transport.write_eof()
        self._deadline.set(min(limits.LINGER_IDLE_SECONDS, self._linger_until - now))

    def _close(self) -> None:
        """Close behind what is still to be written, if the client takes it in time."""
        self._state = CLOSED
        self._transport.close()
        self._deadline.set(limits.SEND_SECONDS)

    def _expired(self) -> None:
        state = self._state
        exchange = self._exchange
        if self._blocked or state in (LINGER, CLOSED, WAIT):
            self._transport.abort()
        elif exchange is not None:
            exchange.client_failed("request_timeout")
        elif self._buffer:
            self._refuse("request_timeout")
        elif self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._close()


def _too_large(data: bytes) -> str:
    """Which limit a head over its size broke: the target's, if the start line alone is too long."""
    line = data.find(b"\r\n")
    return "target_too_long" if line < 0 or line > limits.TARGET_BYTES + 64 else "head_too_large"
