"""One stream of a client: a request's ClientPort, between frames and an exchange that speaks HTTP/1.

The law: the exchange is told each event once and nothing after its end; whatever it says leaves as one response, whose
beginning is a head of HTTP/1 and whose body has no framing of its own (`minor_version` 2 sees to that). A stream is over when
both sides have said all, or one has reset it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes

from data_plane.exchange.messages import CHUNKED
from data_plane.h2.fields import response_fields, trailer_fields
from data_plane.h2.limits import HIGH_WATER_BYTES, STREAM_WINDOW
from data_plane.h2.outflow import Outflow
from data_plane.http import limits

if TYPE_CHECKING:
    from data_plane.exchange.exchange import Exchange
    from data_plane.h2.downstream import H2ClientConnection
    from shared.proxy_wasm.tls_properties import TlsFacts

_HEAD_END = b"\r\n\r\n"


class ClientStream(Outflow):
    """In the loop's seconds: `touched`, when something last moved, `waits_since`, when some of what is to be sent last left."""

    __slots__ = (
        "_blocked",
        "_connection",
        "_held",
        "_looks",
        "_mark",
        "_most",
        "_paused",
        "_received",
        "_responding",
        "_unread",
        "client_address",
        "connection_id",
        "exchange",
        "length",
        "local_address",
        "request_done",
        "tls",
        "touched",
        "waits_since",
    )

    def __init__(self, connection: H2ClientConnection, stream_id: int, request_done: bool, now: float) -> None:
        super().__init__(stream_id)
        self._connection = connection
        self.client_address = connection.client_address
        self.local_address = connection.local_address
        self.connection_id = connection.connection_id
        self.tls: TlsFacts | None = connection.tls
        self.exchange: Exchange | None = None
        self.request_done = request_done
        self.length = CHUNKED
        self.touched = self.waits_since = now
        self._held: object = None
        self._looks = 0
        self._received = 0
        # As of now: what is let in may end.
        self._most = limits.BODY_BYTES
        # How much of a body was here at the first of some looks, and how many these are.
        self._mark = (0, 0)
        # Body bytes that the stream's window has not been given back yet.
        self._unread = 0
        self._paused = False
        self._responding = False
        self._blocked = False

    def __repr__(self) -> str:
        return f"<ClientStream {self.id} {self.exchange!r} unsent={self.size}>"

    # What the client says.

    def body(self, data: bytes, size: int, eos: bool) -> None:
        """`size` is what it took of the window, padding included."""
        self._received += len(data)
        self._unread += size
        length = self.length
        if self._received > self._most:
            self.fail("body_too_large")
            return
        if length >= 0 and (self._received > length or (eos and self._received < length)):
            self._connection.malformed(self)
            return
        if eos:
            self.request_done = True
        if self.exchange is not None and (data or eos):
            self.exchange.request_body(data, eos)
        if not self._paused:
            self._open_window()

    def ends_with(self, lines: bytes) -> None:
        """Trailers, and the end."""
        if self.length >= 0 and self._received < self.length:
            self._connection.malformed(self)
            return
        self.request_done = True
        if self.exchange is not None:
            self.exchange.request_trailers(lines)

    def fail(self, kind: str) -> None:
        """The rest of the request is of no use."""
        exchange = self.exchange
        if exchange is not None:
            exchange.client_failed(kind)

    def gone(self) -> None:
        """Nobody reads the response any more."""
        self.ended = True
        self.drop()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    # What is looked at every now and then.

    def look(self, held_looks: int) -> bool:
        """Whether plugins hold it; they may for so many looks, without a byte of progress."""
        exchange = self.exchange
        held = None if exchange is None else exchange.held()
        if exchange is None or held is None:
            return False
        self._looks = self._looks + 1 if held == self._held else 0
        self._held = held
        if self._looks >= held_looks:
            self._looks = 0
            exchange.held_too_long()
        return True

    @property
    def awaits_body(self) -> bool:
        """The client is due: nothing has been answered, and nobody here asked it to wait."""
        return self.exchange is not None and not (self.request_done or self._paused or self._responding)

    def drips(self) -> bool:
        """Of a body of known length too little has come for too long."""
        received, looks = self._mark
        if looks < limits.BODY_LOOKS:
            self._mark = (received, looks + 1)
            return False
        self._mark = (self._received, 1)
        return self.length > 0 and self._received - received < limits.BODY_BYTES_BETWEEN_LOOKS * looks

    @property
    def is_talking(self) -> bool:
        """Both sides may send, neither must."""
        return self._responding and not self.request_done

    # The exchange's ClientPort.

    def send(self, data: bytes) -> None:
        self._say(data, False)

    def finish(self, data: bytes, keep_alive: bool) -> None:
        self.exchange = None
        self._say(data, True)

    def cut(self, hard: bool) -> None:
        self.exchange = None
        self._connection.reset(self, ErrorCodes.INTERNAL_ERROR)

    def pause_body(self) -> None:
        self._paused = True

    def resume_body(self) -> None:
        self._paused = False
        self._open_window()

    unix_time_ns = staticmethod(time.time_ns)

    def end_with(self, lines: bytes) -> None:
        self.trailers = trailer_fields(lines)

    # Sending.

    def _say(self, data: bytes, eos: bool) -> None:
        if self.ended:
            return
        self.touched = self._connection.now()
        if not self.size:
            self.waits_since = self.touched
        while not self._responding and data:
            head, _, data = data.partition(_HEAD_END)
            fields = response_fields(head)
            self._responding = fields[0][1] >= b"200"
            last = eos and self._responding and not data and not self.trailers
            self._connection.send_head(self, fields, last)
            if last:
                self.eos = self.ended = True
                self._connection.sent_all(self)
                return
        self.put(data)
        self.eos = eos
        if self.size or eos:
            self._connection.turn(self)
        if self.size > HIGH_WATER_BYTES and not self._blocked and self.exchange is not None:
            self._blocked = True
            self.exchange.client_blocked()

    def taken(self) -> None:
        self.waits_since = self.touched = self._connection.now()
        if self._blocked and self.size <= HIGH_WATER_BYTES // 2:
            self._blocked = False
            if self.exchange is not None:
                self.exchange.client_writable()

    def _open_window(self) -> None:
        if self._unread >= STREAM_WINDOW // 2 and not self.request_done:
            self._connection.open_window(self, self._unread)
            self._unread = 0
