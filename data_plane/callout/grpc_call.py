"""One gRPC call of a plugin, unary or a stream, over one stream of an HTTP/2 connection.

The law: nothing is told before the host call that made it has returned, and nothing after its end. A unary call is told its one
message or its status; a stream is told everything in the order of the wire, its status last. A call that surely nobody has
begun (a refused connection, GOAWAY, REFUSED_STREAM) is made again elsewhere as long as nothing but it has to be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from data_plane.callout.grpc_message import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNKNOWN,
    BadFrame,
    Deframer,
    final_status,
    frame,
    refused,
)
from data_plane.callout.http_call import REASONS
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.failures import VmFailed

if TYPE_CHECKING:
    from data_plane.config.snapshot import Attempt, Node, Upstream
    from data_plane.h2.pool import H2Pool
    from data_plane.h2.upstream import UpstreamH2Connection
    from shared.proxy_wasm.callouts import PendingCall
    from shared.proxy_wasm.pairs import Pairs

CONNECTING, OPEN, DONE = range(3)
# A unary call goes out so often at most when the peer says that it has not begun it.
ATTEMPTS = 3

Fields = list[tuple[bytes, bytes]]


class GrpcCall:
    """`message` makes it unary. `fields` are made for a node's authority; `failed` is told when the plugin's VM does not
    survive a callback about the call."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: H2Pool,
        call: PendingCall,
        upstream: Upstream,
        fields: Callable[[Node], Fields],
        message: bytes | None,
        limit: int,
        failed: Callable[[VmFailed], None],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._call = call
        self._upstream = upstream
        self.keepalive = upstream.keepalive_pool
        self._fields = fields
        self._unary = message is not None
        self._limit = limit
        self._failed = failed
        self._state = CONNECTING
        self._attempts = 0
        self._tried: tuple[Node, ...] = ()
        self._node: Node | None = None
        self._attempt: Attempt | None = None
        # Why there is no connection yet.
        self._problem = "no_nodes"
        self._conn: UpstreamH2Connection | None = None
        self._stream_id = 0
        self._timer: asyncio.TimerHandle | None = None
        # What has not been given to a connection yet; all of it, when unary.
        self._outgoing = b"" if message is None else frame(message)
        self._eos = self._unary
        self._deframer = Deframer(limit)
        self._answer: bytes | None = None
        self._final: tuple[int, bytes] | None = None

    def begin(self, seconds: float) -> None:
        if seconds:
            self._timer = self._loop.call_later(seconds, self._expired)
        # Not at once: a connection that is there already would be used within the host call.
        self._loop.call_soon(self._connect)

    # --- the plugin's hand on it

    def send(self, message: bytes, eos: bool) -> Status:
        if self._eos:
            return Status.BAD_ARGUMENT
        self._eos = eos
        self._give(frame(message))
        return Status.OK

    def close(self) -> None:
        if not self._eos:
            self._eos = True
            self._give(b"")

    def cancel(self) -> None:
        self._end()

    def abandon(self) -> None:
        self._close_soon(CANCELLED, REASONS["stream_ended"])

    def _give(self, data: bytes) -> None:
        if self._state == CONNECTING:
            self._outgoing += data
            unsent = len(self._outgoing)
        elif self._conn is not None:
            self._conn.send(self._stream_id, data, self._eos)
            unsent = self._conn.unsent(self._stream_id)
        else:
            return
        if unsent > self._limit:
            self._close_soon(RESOURCE_EXHAUSTED, b"the server does not take what is sent")

    # --- a connection

    def _connect(self) -> None:
        if self._state == DONE:
            return
        node = self._untried()
        if node is None:
            self._close(UNAVAILABLE, REASONS.get(self._problem, b"reset"))
            return
        self._node = node
        self._tried += (node,)
        self._attempt = self._upstream.picker.begin(node)
        self._pool.ask(node, self._upstream.timeouts.connect, self)

    def _untried(self) -> Node | None:
        upstream, tried = self._upstream, self._tried
        if upstream.retries is not None and len(tried) > upstream.retries:
            return None
        picker = upstream.picker
        return picker.choose(picker.key(b"", None), tried) if tried or not picker.at_once else picker.pick()

    def h2_ready(self, conn: UpstreamH2Connection) -> None:
        if self._state != CONNECTING or self._node is None:
            return
        self._state = OPEN
        self._conn = conn
        self._attempts += 1
        self._stream_id = conn.open(self, self._fields(self._node))
        outgoing = self._outgoing
        if not self._unary:
            self._outgoing = b""
        if outgoing or self._eos:
            conn.send(self._stream_id, outgoing, self._eos)

    def h2_failed(self, kind: str) -> None:
        if self._state != CONNECTING:
            return
        self._problem = kind
        if self._attempt is not None:
            self._attempt.failed(kind)
        if kind == "upstream_connect_timeout":
            self._close(UNAVAILABLE, REASONS[kind])
        else:
            self._connect()

    # --- what the server says

    def h2_headers(self, fields: Pairs, eos: bool) -> None:
        problem = refused(fields)
        if self._attempt is not None and problem is None:
            self._attempt.answered(200)
        if problem is not None:
            self._close(*problem)
        elif eos:
            self.h2_trailers(fields)
        elif not self._unary:
            self._tell(lambda: self._call.initial_metadata(fields))

    def h2_interim(self, fields: Pairs) -> None:
        """Plugins are told final responses."""

    def h2_taken(self) -> None:
        """What waits is bounded by refusing more."""

    def h2_data(self, data: bytes) -> None:
        self._deframer.feed(data)
        try:
            while self._state == OPEN and (message := self._deframer.next()) is not None:
                self._take(message)
        except BadFrame as error:
            self._close(error.status, str(error).encode())

    def _take(self, message: bytes) -> None:
        if not self._unary:
            self._tell(lambda: self._call.message(message))
        elif self._answer is None:
            self._answer = message
        else:
            self._close(INTERNAL, b"more than one message")

    def h2_trailers(self, fields: Pairs) -> None:
        self._final = final_status(fields)
        if not self._unary:
            self._tell(lambda: self._call.trailing_metadata(fields))

    def h2_end(self) -> None:
        if self._state != OPEN:
            return
        status, message = (UNKNOWN, b"no status") if self._final is None else self._final
        if not status and not self._deframer.is_empty():
            status, message = INTERNAL, b"an unfinished message"
        answer = self._answer
        if not self._unary or status:
            self._close(status, message)
        elif answer is None:
            self._close(INTERNAL, b"no message")
        else:
            self._end()
            self._tell(lambda: self._call.answer(answer))

    def h2_lost(self, kind: str, unprocessed: bool) -> None:
        if self._state != OPEN:
            return
        self._conn = None
        if self._attempt is not None:
            self._attempt.failed(kind)
        if unprocessed and self._unary and self._attempts < ATTEMPTS:
            self._state = CONNECTING
            self._tried = ()
            self._connect()
        else:
            self._close(UNAVAILABLE, REASONS.get(kind, b"reset"))

    # --- the end

    def _expired(self) -> None:
        self._close(DEADLINE_EXCEEDED, REASONS["timeout"])

    def _close(self, status: int, message: bytes) -> None:
        self._end()
        self._tell(lambda: self._call.close(status, message))

    def _close_soon(self, status: int, message: bytes) -> None:
        if self._state != DONE:
            self._end()
            self._loop.call_soon(self._tell, lambda: self._call.close(status, message))

    def _end(self) -> None:
        self._state = DONE
        if self._attempt is not None:
            self._attempt.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        conn, self._conn = self._conn, None
        if conn is not None:
            conn.reset(self._stream_id)

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except VmFailed as failure:
            self._failed(failure)
