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
| CONNECTING | `upstream_failed`, refused      | the next node, as nothing was sent                    | CONNECTING |
| CONNECTING | `upstream_failed`, no node left | 502, or 504 when it timed out                         | DONE       |
| WAITING    | `upstream_lost`, safe to repeat | the request goes out on a new connection              | CONNECTING |
| WAITING    | `upstream_lost`                 | 502, or 504 when it timed out                         | DONE       |
| WAITING    | `upstream_response`             | the head goes to the client, with what body there is  | RESPONDING |
| RESPONDING | `upstream_body`, the last       | the connection is released, the client gets the end   | DONE       |
| RESPONDING | `upstream_lost`                 | the client is cut off, so that it sees the loss       | DONE       |
| any        | `client_gone`                   | the upstream connection is closed                     | DONE       |
| any        | `client_failed`                 | the reply that says why, or a cut; upstream is closed | DONE       |

It is safe to repeat a request that went out on a connection which had been idle (an upstream may close it at any moment), whose
method is idempotent, of whose body nothing was sent, and to which not a byte of an answer came back.

A request with plugins is a FilteredExchange (filtered.py), which stands between these events and their consequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.framing import BODILESS, CHUNKED_LINE, CLOSE_LINE, KEEP_ALIVE_LINE, chunk, length_line, with_host
from data_plane.exchange.messages import RequestHead, ResponseHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.exchange.replies import reply_for

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Route, Upstream
    from data_plane.exchange.ports import ClientPort, Serving, UpstreamPort

STARTING, CONNECTING, WAITING, RESPONDING, REPLYING, DONE = range(6)
STATES = ("STARTING", "CONNECTING", "WAITING", "RESPONDING", "REPLYING", "DONE")

# Held for a slow upstream or a paused plugin before the client is no longer read; a transport holds as much again.
HIGH_WATER_BYTES = 64 * 1024
# Picks made in search of a node that has not refused yet, so that one heavy node cannot keep the search going.
PICKS = 16
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

NO_TIMEOUT = float("inf")

# Who cannot take more, and who therefore is not read.
CLIENT_BLOCKED, UPSTREAM_PAUSED, UPSTREAM_BLOCKED, CLIENT_PAUSED = 1, 2, 4, 8


class Exchange:
    """Made by a client connection for each request head; `start` comes first, then events in the order of the wire."""

    __slots__ = (
        "_chunked",
        "_flow",
        "_keep_alive",
        "_length",
        "_on_wire",
        "_outgoing",
        "_tried",
        "_wire",
        "client",
        "conn",
        "head",
        "node",
        "request_done",
        "route",
        "serving",
        "state",
    )

    def __init__(self, serving: Serving, client: ClientPort, head: RequestHead, route: Route | None) -> None:
        self.serving = serving
        self.client = client
        self.head = head
        self.route = route
        self.state = STARTING
        self.node: Node | None = None
        self.conn: UpstreamPort | None = None
        self.request_done = False
        # The request to send: ready bytes when there is only a head, else what becomes of head and body.
        self._wire = b""
        self._outgoing: Outgoing | None = None
        self._tried: tuple[Node, ...] = ()
        # The response that is being sent.
        self._on_wire = False
        self._chunked = False
        self._length = 0
        self._keep_alive = False
        self._flow = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {STATES[self.state]} {self.head!r} route={self.route.id if self.route else None}>"

    @property
    def send_timeout(self) -> float:
        """Seconds that the upstream may take to read what was sent."""
        return 0.0 if self.route is None else self.route.timeouts.send

    # Events of the client.

    def start(self, body: bytes, eos: bool) -> None:
        """The head has arrived, with the first bytes of the body; `eos` when that is all of it."""
        self.request_done = eos
        head = self.head
        opened = head.open + self.client.forwarding.lines(head.authority, head.forwarded_for)
        if body or not eos:
            self._outgoing = Outgoing(head.framing, rewritten=False)
            self._outgoing.add(body, eos)
        self._send(opened)
        if not eos:
            self._answer_expectation(body)

    def _answer_expectation(self, body: bytes) -> None:
        """Tell a client that waits for it to go on, once it is clear that the body will be read."""
        if self.head.expects_continue and not body and not self.request_done and self.state <= WAITING:
            self.client.send(CONTINUE)

    def request_body(self, data: bytes, eos: bool) -> None:
        """More of the body, the last of it with `eos`."""
        self.request_done = eos
        self._forward_body(data, eos)

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

    # Events of the upstream.

    def upstream_ready(self, conn: UpstreamPort) -> None:
        """A connection is open. One that is no longer wanted goes to the pool."""
        if self.state == CONNECTING:
            self._use(conn)
        else:
            conn.release()

    def upstream_failed(self, kind: str) -> None:
        """No connection came about. Nothing was sent, so a node that refuses is passed over whatever the method."""
        if self.state != CONNECTING or self.route is None:
            return
        counters = self.serving.counters
        counters.upstream_errors += 1
        upstream = self.route.upstream
        if kind == "upstream_connect_failed" and upstream is not None:
            node = self._untried_node(upstream)
            if node is not None:
                counters.upstream_retries += 1
                self._connect(node, upstream)
                return
        self._fail(kind)

    def upstream_blocked(self) -> None:
        self._flow |= UPSTREAM_BLOCKED
        self._regulate_request()

    def upstream_writable(self) -> None:
        self._flow &= ~UPSTREAM_BLOCKED
        self._regulate_request()

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        """The final head, with the first bytes of the body; `eos` when that is all of it."""
        self.state = RESPONDING
        if eos and self._outgoing is None and self.conn is not None:
            self.conn.release()
            self.conn = None
        elif eos:
            self._let_go()
        self._begin_response(response.open, response.status, response.length, response.framing, body, eos)

    def upstream_body(self, data: bytes, eos: bool) -> None:
        if eos:
            self._let_go()
        self._continue_response(data, eos)

    def upstream_lost(self, kind: str) -> None:
        """The connection broke, timed out, or spoke nonsense; it is closed already."""
        conn = self.conn
        self.conn = None
        counters = self.serving.counters
        if conn is not None and kind == "upstream_closed" and self._may_repeat(conn):
            counters.upstream_retries += 1
            self._repeat()
            return
        counters.upstream_errors += 1
        if self._on_wire:
            self._cut()
        elif self.state != DONE:
            self._fail(kind)

    # Towards the upstream.

    def _send(self, head: bytes) -> None:
        """Pick a node for an open head and a connection to it."""
        route = self.route
        if route is None:
            self._fail("route_not_found")
            return
        upstream = route.upstream
        if upstream is None:
            self._fail(route.problem or "upstream_missing")
            return
        node = upstream.picker.pick()
        if node is None:
            self._fail("no_nodes")
            return
        request = self.head
        if upstream.pass_host != "pass" or not request.authority:
            head = self._address(head, upstream, node)
        outgoing = self._outgoing
        if outgoing is None:
            self._wire = head + request.framing + b"\r\n"
        else:
            outgoing.begin(head)
        conn = self.serving.pool.take(node, outgoing is not None or request.method not in IDEMPOTENT)
        if conn is None:
            self._connect(node, upstream)
        elif outgoing is None:
            # As `_use` does it: most requests come this way.
            self.node = node
            self.state = WAITING
            self.conn = conn
            conn.begin(self, self._wire, route.timeouts.read)
        else:
            self.node = node
            self._use(conn)

    def _address(self, head: bytes, upstream: Upstream, node: Node) -> bytes:
        if upstream.pass_host == "rewrite":
            return with_host(head, upstream.upstream_host)
        if upstream.pass_host == "node" or b"\r\nhost:" not in head.lower():
            return with_host(head, node.authority)
        return head

    def _connect(self, node: Node, upstream: Upstream) -> None:
        self.state = CONNECTING
        self.node = node
        self._tried += (node,)
        route = self.route
        self.serving.pool.connect(node, upstream, upstream.timeouts if route is None else route.timeouts, self)

    def _untried_node(self, upstream: Upstream) -> Node | None:
        for _ in range(PICKS):
            node = upstream.picker.pick()
            if node is None or node not in self._tried:
                return node
        return None

    def _use(self, conn: UpstreamPort) -> None:
        """Send the request from its beginning."""
        self.state = WAITING
        self.conn = conn
        outgoing = self._outgoing
        if outgoing is None:
            conn.begin(self, self._wire, self._read_timeout())
        else:
            data = outgoing.take()
            conn.begin(self, data, self._read_timeout() if outgoing.is_complete() else 0.0)
            self._regulate_request()

    def _read_timeout(self) -> float:
        return NO_TIMEOUT if self.route is None else self.route.timeouts.read

    def _may_repeat(self, conn: UpstreamPort) -> bool:
        unsent = self._outgoing is None or not self._outgoing.body_sent
        return self.state == WAITING and conn.reused and unsent and self.head.method in IDEMPOTENT

    def _repeat(self) -> None:
        if self._outgoing is not None:
            self._outgoing.rewind()
        if self.node is not None and self.route is not None and self.route.upstream is not None:
            self._connect(self.node, self.route.upstream)

    def _forward_body(self, data: bytes, eos: bool) -> None:
        outgoing = self._outgoing
        if outgoing is not None and self.state <= RESPONDING:
            outgoing.add(data, eos)
            self._pump(outgoing)

    def _pump(self, outgoing: Outgoing) -> None:
        conn = self.conn
        if conn is not None and not outgoing.is_complete():
            data = outgoing.take()
            if data:
                conn.send(data)
            if outgoing.is_complete():
                conn.await_response(self._read_timeout())
        self._regulate_request()

    def _regulate_request(self) -> None:
        """Read the client no faster than the upstream and the plugins take it."""
        waiting = 0 if self._outgoing is None else self._outgoing.size
        pause = bool(self._flow & UPSTREAM_BLOCKED) or waiting + self._request_backlog() > HIGH_WATER_BYTES
        pause = pause and not self.request_done and self.state <= RESPONDING
        if pause != bool(self._flow & CLIENT_PAUSED):
            self._flow ^= CLIENT_PAUSED
            if pause:
                self.client.pause_body()
            else:
                self.client.resume_body()

    def _request_backlog(self) -> int:
        """Bytes that plugins hold."""
        return 0

    def _let_go(self) -> None:
        """The upstream has answered in full. If it did so before it had the whole request, its connection is spoilt."""
        conn = self.conn
        if conn is not None:
            self.conn = None
            if self._outgoing is None or self._outgoing.is_complete():
                conn.release()
            else:
                conn.close()

    # Towards the client.

    def _fail(self, kind: str) -> None:
        """Answer with the gateway's own reply."""
        reply = reply_for(kind)
        self._drop_upstream()
        self._begin_response(reply.head, reply.status, len(reply.body), length_line(len(reply.body)), reply.body, True)

    def _begin_response(self, head: bytes, status: int, length: int, framing: bytes, data: bytes, eos: bool) -> None:
        """Send a head, its framing decided by what is known now, and the beginning of its body.

        `length` may be CHUNKED or UNTIL_CLOSE; `framing` is the line that says a length.
        """
        request = self.head
        keep_alive = request.keep_alive and self.request_done and not self.serving.draining
        if status in BODILESS or request.method == b"HEAD":
            data = b""
            if length < 0 or status == 204:
                framing = b""
        elif length < 0:
            if request.minor_version == 1:
                framing = CHUNKED_LINE
                self._chunked = True
                data = chunk(data, eos)
            else:
                framing = b""
                keep_alive = False
        if not keep_alive:
            framing += CLOSE_LINE
        elif request.minor_version == 0:
            framing += KEEP_ALIVE_LINE
        self.serving.counters.responses[status // 100] += 1
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
            data = chunk(data, eos)
        if eos:
            self._finish(data, self._keep_alive)
        elif data:
            self.client.send(data)

    def _response_backlog(self) -> int:
        """Bytes that plugins hold."""
        return 0

    def _regulate_response(self) -> None:
        """Read the upstream no faster than the client and the plugins take it."""
        conn = self.conn
        if conn is None:
            return
        pause = bool(self._flow & CLIENT_BLOCKED) or self._response_backlog() > HIGH_WATER_BYTES
        if pause != bool(self._flow & UPSTREAM_PAUSED):
            self._flow ^= UPSTREAM_PAUSED
            if pause:
                conn.pause_reading()
            else:
                conn.resume_reading()

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

    def _drop_upstream(self) -> None:
        conn = self.conn
        if conn is not None:
            self.conn = None
            conn.close()
