"""One request over one stream of an HTTP/2 connection to an upstream: the exchange's UpstreamPort.

The law: the exchange sends and hears messages of HTTP/1, here they become frames and back; a response is passed on only if it
has one reading by RFC 9113 section 8, anything else is `upstream_bad_response`. What the peer has surely not begun goes out
again on another connection, as long as all of it is still here; the exchange notices nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.framing import BODILESS
from data_plane.exchange.messages import CHUNKED
from data_plane.h2.fields import Field, MalformedError, request_fields, response_head, trailer_fields, trailer_lines
from data_plane.h2.limits import HIGH_WATER_BYTES
from data_plane.http.chunked import TrailerReader
from data_plane.http.head import HeadError
from data_plane.http.limits import INTERIM_RESPONSES
from data_plane.http.timers import NEVER, Deadline

if TYPE_CHECKING:
    from data_plane.config.snapshot import KeepalivePool, Node
    from data_plane.exchange.requester import Requester
    from data_plane.h2.pool import H2Pool
    from data_plane.h2.upstream import UpstreamH2Connection
    from shared.proxy_wasm.pairs import Pairs

# Kept of a request to send it again: most calls are smaller, and a stream of messages is never all here.
REPLAY_BYTES = 64 * 1024
# On so many connections a request goes out at most.
ATTEMPTS = 3

_HEAD_END = b"\r\n\r\n"

# ASKING: for another connection.
IDLE, OPEN, ASKING, DONE = range(4)


class UpstreamStream:
    """Made for one exchange; it is the pool's waiter, and the listener of the connection that it gets."""

    def __init__(
        self,
        pool: H2Pool,
        node: Node,
        connect_timeout: float,
        keepalive: KeepalivePool,
        scheme: bytes,
        exchange: Requester,
    ) -> None:
        self.exchange: Requester | None = exchange
        self.keepalive = keepalive
        self.reused = False
        self._pool = pool
        self._conn: UpstreamH2Connection
        self._node = node
        self._connect_timeout = connect_timeout
        self._scheme = scheme
        self._state = IDLE
        self._id = 0
        self._attempts = 0
        self._began_at = 0.0
        self._deadline: Deadline
        self._read_timeout = NEVER
        # The request: its fields, the bytes of its body that may have to be sent again, how it ends.
        self._fields: list[Field] = []
        self._kept: bytearray | None = bytearray()
        self._remaining = 0
        self._chunks: TrailerReader | None = None
        self._trailers: list[Field] = []
        self._eos = False
        self._blocked = False
        self._paused = False
        # The response.
        self._interim = 0
        self._length = CHUNKED
        self._received = 0

    def __repr__(self) -> str:
        return f"<UpstreamStream {self._id} of {self._node.host}:{self._node.port} state={self._state}>"

    # The exchange's UpstreamPort.

    @property
    def heard(self) -> bool:
        return self._interim > 0

    def begin(self, exchange: Requester, data: bytes, read_timeout: float) -> None:
        self.exchange = exchange
        self._deadline = Deadline(self._pool.loop, self._expired)
        self._read_timeout = read_timeout or NEVER
        if data:
            self._begin(data)

    def send(self, data: bytes) -> None:
        if not self._fields:
            self._begin(data)
            return
        body = self._decoded(data)
        self._keep(body)
        if self._state == OPEN:
            self._conn.send(self._id, body, self._eos, self._trailers)
            self._look()
        elif self._state == ASKING and self._kept is None:
            self._lose("upstream_closed")

    def await_response(self, read_timeout: float) -> None:
        self._read_timeout = read_timeout
        self._touch()

    def pause_reading(self) -> None:
        if self._state == OPEN:
            self._paused = True
            self._conn.pause(self._id)
            self._deadline.clear()

    def resume_reading(self) -> None:
        self._paused = False
        if self._state == OPEN:
            self._touch()
            self._conn.resume(self._id)

    def release(self) -> None:
        self.close()

    def close(self) -> None:
        self.exchange = None
        if self._state in (OPEN, ASKING):
            was_open = self._state == OPEN
            self._over()
            if was_open:
                self._conn.reset(self._id)
        self._state = DONE

    # The request.

    def _begin(self, data: bytes) -> None:
        """The head leaves as a whole, and not before its framing is known: perhaps with the first of the body."""
        head, _, body = data.partition(_HEAD_END)
        self._fields, self._remaining = request_fields(head, self._scheme)
        if self._remaining == CHUNKED:
            self._chunks = TrailerReader()
        self._keep(self._decoded(body))
        if self._conn.takes_more():
            self._open()
        else:
            self._ask()

    def _decoded(self, data: bytes) -> bytes:
        """The body in what the exchange sends, which has framed it itself."""
        if self._chunks is not None:
            data, self._eos, _ = self._chunks.feed(data)
            if self._eos:
                self._trailers = trailer_fields(self._chunks.lines)
        else:
            self._remaining -= len(data)
            self._eos = self._remaining <= 0
        return data

    def _keep(self, data: bytes) -> None:
        kept = self._kept
        if kept is None or len(kept) + len(data) > REPLAY_BYTES:
            self._kept = None if self._state != IDLE else bytearray(data)
        else:
            kept += data

    def _open(self) -> None:
        body = bytes(self._kept or b"")
        alone = self._eos and not body and not self._trailers
        self._attempts += 1
        self._began_at = self._pool.loop.time()
        self._state = OPEN
        self._id = self._conn.open(self, self._fields, eos=alone)
        if not alone:
            self._conn.send(self._id, body, self._eos, self._trailers)
            if len(body) > REPLAY_BYTES:
                self._kept = None
        self._touch()
        self._look()

    def _look(self) -> None:
        """The exchange shall not send faster than the peer takes it."""
        if not self._blocked and self.exchange is not None and self._conn.unsent(self._id) > HIGH_WATER_BYTES:
            self._blocked = True
            self._deadline.set(self.exchange.send_timeout)
            self.exchange.upstream_blocked()

    def h2_taken(self) -> None:
        if not self._blocked or self.exchange is None:
            return
        if self._conn.unsent(self._id) <= HIGH_WATER_BYTES // 2:
            self._blocked = False
            self._touch()
            self.exchange.upstream_writable()
        else:
            self._deadline.set(self.exchange.send_timeout)

    # The pool's waiter, at first and for another connection.

    def h2_ready(self, conn: UpstreamH2Connection) -> None:
        if self._state == ASKING:
            self._conn = conn
            self._open()
        elif self._state == IDLE and self.exchange is not None:
            self._conn = conn
            # One that has carried others may have been closing when this one came.
            self.reused = conn.opened > 0
            self.exchange.upstream_ready(self)

    def h2_failed(self, kind: str) -> None:
        if self._state == ASKING:
            self._lose(kind)
        elif self._state == IDLE and self.exchange is not None:
            self.exchange.upstream_failed(kind)

    # What the peer says.

    def h2_interim(self, fields: Pairs) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self._kept = None
        self.reused = False
        self._interim += 1
        try:
            response = response_head(fields)
        except HeadError:
            self._refuse()
            return
        if response.status == 101 or self._interim > INTERIM_RESPONSES:
            self._refuse()
        elif response.status != 100:
            exchange.upstream_interim(response)

    def h2_headers(self, fields: Pairs, eos: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self._kept = None
        try:
            response = response_head(fields)
        except HeadError:
            self._refuse()
            return
        bodiless = response.status in BODILESS or exchange.head.method == b"HEAD"
        self._length = 0 if bodiless else response.length
        if not eos:
            self._touch()
            exchange.upstream_response(response, b"", False)
        elif self._length > 0:
            self._refuse()
        else:
            self._over()
            exchange.upstream_response(response, b"", True)

    def h2_data(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        self._received += len(data)
        if self._length >= 0 and self._received > self._length:
            self._refuse()
            return
        self._touch()
        exchange.upstream_body(data, False)

    def h2_trailers(self, fields: Pairs) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        try:
            lines = trailer_lines(fields)
        except (MalformedError, HeadError):
            self._refuse()
            return
        if lines and exchange.keeps_trailers:
            exchange.upstream_trailers(lines)

    def h2_end(self) -> None:
        exchange = self.exchange
        if exchange is None or self._state != OPEN:
            return
        if self._length >= 0 and self._received != self._length:
            self._refuse()
            return
        self._over()
        exchange.upstream_body(b"", True)

    def h2_lost(self, kind: str, unprocessed: bool) -> None:
        if self._state != OPEN:
            return
        if unprocessed and self._kept is not None and self._attempts < ATTEMPTS:
            self._ask()
        else:
            self._lose(kind)

    def _ask(self) -> None:
        self._state = ASKING
        self._blocked = False
        self._pool.ask(self._node, self._connect_timeout, self)

    # The end.

    def _touch(self) -> None:
        if self._read_timeout != NEVER and self._state == OPEN and not (self._blocked or self._paused):
            self._deadline.set(self._read_timeout)

    def _expired(self) -> None:
        kind = "upstream_send_timeout" if self._blocked else "upstream_read_timeout"
        conn = self._conn
        conn.reset(self._id)
        if conn.heard_at < self._began_at:
            # Not a word since the request, on any stream: nobody may be there any more.
            conn.retire()
        self._lose(kind)

    def _refuse(self) -> None:
        self._conn.reset(self._id)
        self._lose("upstream_bad_response")

    def _lose(self, kind: str) -> None:
        exchange = self.exchange
        self._over()
        self.exchange = None
        if exchange is not None:
            exchange.upstream_lost(kind)

    def _over(self) -> None:
        self._state = DONE
        self._deadline.close()
