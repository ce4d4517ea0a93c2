"""One request and its response, from the client to an upstream and back.

The law: every method is an event; what follows from it are calls on the ports, made before it returns; nothing waits. However
the exchange ends, it ends once: the upstream connection is released or closed, and the client is told exactly one of `finish`
and `cut` (none if it is the one who left).

| state      | event                           | what follows                                          | next       |
|------------|---------------------------------|-------------------------------------------------------|------------|
| STARTING   | `start`, nowhere to send it     | the reply that says why                               | DONE       |
| STARTING   | `start`                         | an idle connection gets the request                   | WAITING    |
| STARTING   | `start`, no idle connection     | one is opened                                         | CONNECTING |
| CONNECTING | `upstream_ready`                | it gets the request, as far as it is here             | WAITING    |
| CONNECTING | `upstream_failed`               | another node, as nothing was sent                     | CONNECTING |
| CONNECTING | `upstream_failed`, no node left | 502, or 504 when it timed out                         | DONE       |
| WAITING    | `upstream_lost`, safe to repeat | a new connection or another node (sending.py)         | CONNECTING |
| WAITING    | `upstream_lost`                 | 502, or 504 when it timed out                         | DONE       |
| WAITING    | `upstream_response`             | the head goes to the client, with what body there is  | RESPONDING |
| RESPONDING | `upstream_body`, the last       | the connection is released, the client gets the end   | DONE       |
| RESPONDING | `upstream_lost`                 | the client is cut off, so that it sees the loss       | DONE       |
| any        | `client_gone`                   | the upstream connection is closed                     | DONE       |
| any        | `client_failed`                 | the reply that says why, or a cut; upstream is closed | DONE       |

A request with plugins is a FilteredExchange (filtered.py), which stands between these events and their consequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import (
    BODILESS,
    CHUNK_END,
    CHUNKED_LINE,
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    LARGE,
    LAST_CHUNK,
    chunk,
    chunk_line,
)
from data_plane.exchange.grpc import local_response
from data_plane.exchange.messages import ResponseHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.exchange.ports import TrailingClient
from data_plane.exchange.replies import reply_for
from data_plane.exchange.sending import CLIENT_BLOCKED, DONE, RESPONDING, STATES, WAITING, Sending

if TYPE_CHECKING:
    pass

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(Sending):
    """Made by a client connection for each request head; `start` comes first, then events in the order of the wire."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {STATES[self.state]} {self.head!r} route={self.route.id if self.route else None}>"

    # Events of the client.

    def start(self, body: bytes, eos: bool) -> None:
        """The head has arrived, with the first bytes of the body; `eos` when that is all of it."""
        self.request_done = eos
        head = self.head
        if body or not eos:
            self._outgoing = Outgoing(head.fields.framing, rewritten=False)
            self._outgoing.add(body, eos)
        self._send(head.open)
        if not eos:
            self._answer_expectation(body)

    def _answer_expectation(self, body: bytes) -> None:
        """Tell a client that waits for it to go on, once it is clear that the body will be read."""
        if self.head.fields.expects_continue and not body and not self.request_done and self.state <= WAITING:
            self.client.send(CONTINUE)

    def request_body(self, data: bytes, eos: bool) -> None:
        """More of the body, the last of it with `eos`."""
        self.request_done = eos
        self._forward_body(data, eos)

    def request_trailers(self, lines: bytes) -> None:
        """The end of the body, with field lines behind it. Those of chunks only plugins see and pass on."""
        outgoing = self._outgoing
        if self.head.fields.minor_version < 2 or outgoing is None:
            self.request_body(b"", True)
            return
        self.request_done = True
        if self.state <= RESPONDING:
            outgoing.end_with(lines)
            self._pump(outgoing)

    def client_blocked(self) -> None:
        """What was sent to the client piles up."""
        self._flow |= CLIENT_BLOCKED
        self._regulate_response()

    def client_writable(self) -> None:
        self._flow &= ~CLIENT_BLOCKED
        self._regulate_response()

    def client_gone(self) -> None:
        if self.state != DONE:
            self.serving.counters.client_aborts += 1
            self._end()

    def client_failed(self, kind: str) -> None:
        """The rest of the request will not come: it stalled, or its framing broke."""
        self.request_done = False
        if self._on_wire:
            self._cut()
        elif self.state != DONE:
            self._fail(kind)

    def held(self) -> object:
        """What is known of a request that plugins hold, for comparison with a later look; None when none does."""
        return None

    def held_too_long(self) -> None:
        if self._on_wire:
            self._cut()
        elif self.state != DONE:
            self._fail("plugin_held")

    # Events of the upstream.

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        """The final head, with the first bytes of the body; `eos` when that is all of it."""
        self.state = RESPONDING
        if not eos:
            self._begin_response(response.open, response.status, response.length, response.framing, body, False)
            return
        if self._outgoing is None and self.conn is not None:
            self.conn.release()
            self.conn = None
        else:
            self._let_go()
        self._whole_response(response.open, response.status, response.length, response.framing, body)

    def upstream_interim(self, response: ResponseHead) -> None:
        """Passed on as RFC 9110, section 15.2, wants it, but not to a client of HTTP/1.0. Plugins see final ones only."""
        if self.state == WAITING and self.head.fields.minor_version:
            self.client.send(response.open + b"\r\n")

    @property
    def keeps_trailers(self) -> bool:
        return self.head.fields.minor_version == 2

    def upstream_trailers(self, lines: bytes) -> None:
        cast(TrailingClient, self.client).end_with(lines)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        if eos:
            self._let_go()
        self._continue_response(data, eos)

    def upstream_lost(self, kind: str) -> None:
        """The connection broke, timed out, or spoke nonsense; it is closed already."""
        conn = self.conn
        self.conn = None
        problem = self._recover(conn, kind)
        if not problem:
            return
        if self._on_wire:
            self._cut()
        elif self.state != DONE:
            self._fail(problem)

    # Towards the client.

    def _fail(self, kind: str) -> None:
        """Answer with the gateway's own reply."""
        reply = reply_for(kind)
        self._drop_upstream()
        self._begin_reply(reply.head, reply.body)

    def _begin_reply(self, head: bytes, body: bytes) -> None:
        head, length, framing, body = local_response(self.head, head, body)
        self._begin_response(head, int(head[9:12]), length, framing, body, True)

    def _whole_response(self, head: bytes, status: int, length: int, framing: bytes, body: bytes) -> None:
        """Most that are here in full have a length and a body and keep the connection; `_begin_response` has the rest."""
        fields, serving = self.head.fields, self.serving
        keep_alive = fields.keep_alive and fields.minor_version and self.request_done and not serving.draining
        if keep_alive and body and length > 0 and status not in BODILESS:
            serving.counters.responses[status] += 1
            self.state = DONE
            self.client.finish(b"".join((head, framing, b"\r\n", body)), True)
        else:
            self._begin_response(head, status, length, framing, body, True)

    def _begin_response(self, head: bytes, status: int, length: int, framing: bytes, data: bytes, eos: bool) -> None:
        """Send a head, its framing decided by what is known now, and the beginning of its body.

        `length` may be CHUNKED or UNTIL_CLOSE; `framing` is the line that says a length.
        """
        request = self.head
        fields = request.fields
        keep_alive = fields.keep_alive and self.request_done and not self.serving.draining
        if status in BODILESS or request.method == b"HEAD":
            data = b""
            if length < 0 or status == 204:
                framing = b""
        elif length < 0:
            if fields.minor_version == 1:
                framing = CHUNKED_LINE
                self._chunked = True
                data = chunk(data, eos)
            else:
                framing = b""
                keep_alive = False
        if not keep_alive:
            framing += CLOSE_LINE
        elif fields.minor_version == 0:
            framing += KEEP_ALIVE_LINE
        self.serving.counters.responses[status] += 1
        data = b"".join((head, framing, b"\r\n", data))
        if eos:
            self._finish(data, keep_alive)
        else:
            self._on_wire = True
            self._length = length
            self._keep_alive = keep_alive
            self.client.send(data)

    def _continue_response(self, data: bytes, eos: bool) -> None:
        if self._chunked:
            if len(data) >= LARGE:
                # Put together it would be copied once more.
                self.client.send(chunk_line(data))
                self.client.send(data)
                data = CHUNK_END + LAST_CHUNK if eos else CHUNK_END
            else:
                data = chunk(data, eos)
        if eos:
            self._finish(data, self._keep_alive)
        elif data:
            self.client.send(data)

    # The end.

    def _finish(self, data: bytes, keep_alive: bool) -> None:
        """The last bytes of the response."""
        self.state = DONE
        if self.conn is not None:
            self._drop_upstream()
        self.client.finish(data, keep_alive)

    def _cut(self) -> None:
        """Without a length or chunks the end of the connection is the end of the body: then only a reset tells the loss."""
        self._end()
        self.client.cut(hard=self._on_wire and not self._chunked and self._length < 0)

    def _end(self) -> None:
        self.state = DONE
        self._drop_upstream()
