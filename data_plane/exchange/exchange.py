"""One request and its response, from the client to an upstream and back.

The law: every method is an event or a result of the plugin chain; what follows from it are calls on the ports, made before it
returns; nothing waits. However the exchange ends, it ends once: the chain is finished, the upstream connection is released or
closed, and the client is told exactly one of `response_done` and `cut` (none if it is the one who left).

| state      | event                          | what follows                                             | next        |
|------------|--------------------------------|----------------------------------------------------------|-------------|
| FILTERING  | `start`, no route or a problem | the reply of that kind                                   | REPLYING    |
| FILTERING  | `start`                        | the head goes through the chain, or on at once           | (same)      |
| FILTERING  | `forward_request_head`         | a pooled connection gets the head                        | WAITING     |
| FILTERING  | `forward_request_head`         | no idle connection: one is opened                        | CONNECTING  |
| CONNECTING | `upstream_ready`               | head and held body are sent                              | WAITING     |
| CONNECTING | `upstream_failed`              | the next node (refused), else 502 or 504                 | CONNECTING, REPLYING |
| WAITING    | `upstream_response`            | the head goes through the chain to the client            | RESPONDING  |
| WAITING    | `upstream_lost`                | once more on a new connection if that is safe, else 502/4| CONNECTING, REPLYING |
| RESPONDING | `upstream_body`, last          | the connection is released; the end goes to the client   | DONE when the chain forwards the end |
| RESPONDING | `upstream_lost`                | the client is cut off, so that it sees the loss          | DONE        |
| any        | `local_reply`                  | the upstream is dropped, the reply goes through the chain| REPLYING    |
| any        | `client_gone`, `abort`         | the upstream is dropped                                  | DONE        |

It is safe to send a request once more when it went out on a connection that had been idle (which the upstream may close at any
moment), not a byte came back, its method is idempotent, and nothing of a body was sent.

Between a call of the chain and its return (`_depth` above 0) output is held, so that head and body leave in one write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.framing import (
    CHUNKED_LINE,
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    chunk,
    has_body,
    length_line,
    with_host,
)
from data_plane.exchange.info import ExchangeInfo
from data_plane.exchange.messages import CHUNKED, RequestHead, ResponseHead
from data_plane.exchange.replies import PROBLEMS_BEFORE_PLUGINS, open_reply, reply_for

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, PluginBinding, Route, Upstream
    from data_plane.exchange.ports import ClientPort, Serving, UpstreamPort
    from data_plane.plugins.interface import LocalReply, PluginChain

FILTERING, CONNECTING, WAITING, RESPONDING, REPLYING, DONE = range(6)
STATES = ("FILTERING", "CONNECTING", "WAITING", "RESPONDING", "REPLYING", "DONE")

# Held for a slow peer or a paused plugin before the other side is no longer read; a transport adds as much again.
HIGH_WATER_BYTES = 64 * 1024
# Picks made in search of a node that has not refused yet, so that one heavy node cannot keep the search going.
PICKS = 16
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

KEPT, CLOSED, CUT, GONE = range(4)


class Exchange:
    """Made by a client connection for each request head; `start` comes first, then events in the order of the wire."""

    __slots__ = (
        "_client_blocked",
        "_client_paused",
        "_depth",
        "_head_held",
        "_head_is_all",
        "_head_out",
        "_length",
        "_local_reply_made",
        "_on_wire",
        "_outcome",
        "_pending",
        "_pending_bytes",
        "_replay",
        "_request_chunked",
        "_request_eos",
        "_request_sent",
        "_response_chunked",
        "_settled",
        "_status",
        "_tried",
        "_upstream_blocked",
        "_upstream_paused",
        "chain",
        "client",
        "conn",
        "head",
        "request_bytes",
        "request_done",
        "response_bytes",
        "route",
        "serving",
        "state",
        "upstream_address",
    )

    def __init__(self, serving: Serving, client: ClientPort, head: RequestHead) -> None:
        self.serving = serving
        self.client = client
        self.head = head
        self.state = FILTERING
        self.route: Route | None = None
        self.chain: PluginChain | None = None
        self.conn: UpstreamPort | None = None
        self.upstream_address: tuple[str, int] | None = None
        self.request_done = False
        self.request_bytes = 0
        self.response_bytes = 0
        self._depth = 0
        self._outcome = CLOSED
        self._settled = False
        # Towards the upstream: an open head whose framing is not decided, then body pieces that wait for it or a connection.
        self._head_out: bytes | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._request_eos = False
        self._request_sent = False
        self._request_chunked = False
        self._replay: bytes | None = None
        self._tried: list[Node] | None = None
        self._upstream_blocked = False
        self._client_paused = False
        # Towards the client: likewise.
        self._head_held: bytes | None = None
        self._head_is_all = False
        self._status = 0
        self._length = 0
        self._response_chunked = False
        self._on_wire = False
        self._local_reply_made = False
        self._client_blocked = False
        self._upstream_paused = False

    def __repr__(self) -> str:
        return f"<Exchange {STATES[self.state]} {self.head!r} route={self.route.id if self.route else None}>"

    @property
    def send_timeout(self) -> float:
        """Seconds that the upstream may take to read what was sent."""
        return self.route.timeouts.send if self.route is not None else 0.0

    # Events of the client.

    def start(self, body: bytes, eos: bool) -> None:
        """The head has arrived, with the first bytes of the body; `eos` when that is all of it."""
        serving = self.serving
        head = self.head
        serving.counters.requests += 1
        self.request_done = eos
        snapshot = serving.snapshot
        if snapshot is None:
            self._fail("no_snapshot")
            return
        route = snapshot.router.match(head.method, head.host, head.path)
        self.route = route
        if route is None:
            bindings = snapshot.global_bindings
        elif route.problem is not None and route.problem in PROBLEMS_BEFORE_PLUGINS:
            self._fail(route.problem)
            return
        else:
            bindings = route.bindings
        authority = head.authority
        host = b"\r\nHost: " + authority if authority else b""
        forwarded = self.client.forwarding.lines(authority, head.forwarded_for)
        opened = b"%b %b HTTP/1.1%b%b%b" % (head.method, head.target, host, head.fields, forwarded)
        if bindings:
            self._start_chain(bindings, opened, body, eos)
        else:
            self._request_eos = eos
            if body:
                self._pending.append(body)
                self._pending_bytes = len(body)
            self._route_upstream(opened)
            self._pump()
        if head.expects_continue and not eos and not body and self.state <= WAITING:
            self.client.send(CONTINUE)

    def _start_chain(self, bindings: tuple[PluginBinding, ...], opened: bytes, body: bytes, eos: bool) -> None:
        chain = self.chain = self.serving.runtime.open_chain(bindings, self, ExchangeInfo(self))
        self.request_bytes = len(body)
        head_is_all = eos and not body
        self._depth += 1
        self._request_eos = head_is_all
        chain.request_head(opened, self.head.framing, head_is_all)
        if body and self.state <= WAITING:
            chain.request_body(body, eos)
        self._leave()
        self._regulate_request()

    def request_body(self, data: bytes, eos: bool) -> None:
        """More of the body, the last of it with `eos`."""
        self.request_done = eos
        if self.state > RESPONDING:
            return
        chain = self.chain
        if chain is None:
            self.forward_request_body(data, eos)
        else:
            self.request_bytes += len(data)
            self._depth += 1
            chain.request_body(data, eos)
            self._leave()
        self._regulate_request()

    def client_blocked(self) -> None:
        """What was sent to the client piles up."""
        self._client_blocked = True
        self._regulate_response()

    def client_writable(self) -> None:
        self._client_blocked = False
        self._regulate_response()

    def client_gone(self) -> None:
        if self.state != DONE:
            self.serving.counters.client_aborts += 1
            self._end(GONE)

    def client_failed(self, kind: str) -> None:
        """The rest of the request will not come: it stalled, or its framing broke."""
        self.request_done = False
        if self._on_wire:
            self._cut()
        elif self.state < REPLYING:
            self._fail(kind)

    # Events of the upstream.

    def upstream_ready(self, conn: UpstreamPort) -> None:
        """A connection is open. One that is no longer wanted goes to the pool."""
        if self.state != CONNECTING:
            conn.release()
            return
        self._use(conn)
        if self._replay is not None:
            conn.send(self._replay)
            if self._request_sent:
                self._await_response(conn)
        self._pump()
        self._regulate_request()

    def upstream_failed(self, kind: str) -> None:
        """No connection came about. Nothing was sent, so a node that refuses is passed over whatever the method."""
        if self.state != CONNECTING:
            return
        self.serving.counters.upstream_errors += 1
        route = self.route
        if kind == "upstream_connect_failed" and route is not None and route.upstream is not None:
            node = self._untried_node(route.upstream)
            if node is not None:
                self.serving.counters.upstream_retries += 1
                self._connect(node, route.upstream)
                return
        self._fail(kind)

    def upstream_blocked(self) -> None:
        self._upstream_blocked = True
        self._regulate_request()

    def upstream_writable(self) -> None:
        self._upstream_blocked = False
        self._regulate_request()

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        """The final head, with the first bytes of the body; `eos` when that is all of it."""
        self.state = RESPONDING
        self._status = response.status
        self._length = response.length
        if eos:
            self._let_go()
        chain = self.chain
        if chain is None:
            self._head_held = response.open
            self._emit(body, eos)
            return
        if response.length >= 0:
            framing = length_line(response.length)
        else:
            framing = CHUNKED_LINE if response.length == CHUNKED else b""
        self._depth += 1
        self._head_is_all = eos and not body
        chain.response_head(response.open, framing, self._head_is_all)
        if body and self.state == RESPONDING:
            chain.response_body(body, eos)
        self._leave()
        self._regulate_response()

    def upstream_body(self, data: bytes, eos: bool) -> None:
        if eos:
            self._let_go()
        if self.state != RESPONDING:
            return
        chain = self.chain
        if chain is None:
            self._emit(data, eos)
            return
        self._depth += 1
        chain.response_body(data, eos)
        self._leave()
        self._regulate_response()

    def upstream_lost(self, kind: str) -> None:
        """The connection broke, timed out, or spoke nonsense; it is closed already."""
        conn = self.conn
        self.conn = None
        if self.state == WAITING and conn is not None and kind == "upstream_closed" and self._may_repeat(conn):
            route = self.route
            if route is not None and route.upstream is not None and self._tried:
                self.serving.counters.upstream_retries += 1
                self._connect(self._tried.pop(), route.upstream)
                return
        self.serving.counters.upstream_errors += 1
        if self._on_wire:
            self._cut()
        elif self.state < REPLYING:
            self._fail(kind)

    # Results of the chain.

    def forward_request_head(self, head: bytes) -> None:
        if self.state != FILTERING:
            return
        self._route_upstream(head)
        if not self._depth:
            self._pump()

    def forward_request_body(self, data: bytes, eos: bool) -> None:
        if self.state > RESPONDING or self._request_sent:
            return
        self._request_eos = eos
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)
        if not self._depth:
            self._pump()
            self._regulate_request()

    def forward_response_head(self, head: bytes) -> None:
        if self.state == DONE:
            return
        self._head_held = head
        # A plugin may have written another status.
        self._status = int(head[9:12])
        if self._head_is_all:
            self._emit(b"", True)
        elif not self._depth:
            self._flush_head()

    def forward_response_body(self, data: bytes, eos: bool) -> None:
        if self.state == DONE:
            return
        self.response_bytes += len(data)
        self._emit(data, eos)
        if not self._depth:
            self._regulate_response()

    def local_reply(self, reply: LocalReply) -> None:
        if self.state == DONE:
            return
        if self._on_wire:
            self._cut()
            return
        # A plugin that answers its own answer would never end: its second one goes out as it is.
        through_chain = not self._local_reply_made
        self._local_reply_made = True
        self._reply(reply.status, open_reply(reply), reply.body, through_chain)

    def abort(self, reason: str) -> None:
        if self.state != DONE:
            self._cut()

    # Towards the upstream.

    def _route_upstream(self, head: bytes) -> None:
        """Pick a node for an open head and a connection to it."""
        route = self.route
        if route is None:
            self._fail("route_not_found")
            return
        upstream = route.upstream
        if route.problem is not None or upstream is None:
            self._fail(route.problem or "upstream_missing")
            return
        node = upstream.picker.pick()
        if node is None:
            self._fail("no_nodes")
            return
        if upstream.pass_host != "pass":
            head = with_host(head, node.authority if upstream.pass_host == "node" else upstream.upstream_host)
        elif not self.head.authority and self.chain is None:
            head = with_host(head, node.authority)
        self._head_out = head
        request = self.head
        conn = self.serving.pool.take(node, bool(request.length) or request.method not in IDEMPOTENT)
        if conn is None:
            self._connect(node, upstream)
        else:
            self._tried = [node]
            self._use(conn)

    def _connect(self, node: Node, upstream: Upstream) -> None:
        self.state = CONNECTING
        if self._tried is None:
            self._tried = []
        self._tried.append(node)
        route = self.route
        timeouts = route.timeouts if route is not None else upstream.timeouts
        self.serving.pool.connect(node, upstream, timeouts, self)

    def _untried_node(self, upstream: Upstream) -> Node | None:
        tried = self._tried or []
        for _ in range(PICKS):
            node = upstream.picker.pick()
            if node is None or node not in tried:
                return node
        return None

    def _may_repeat(self, conn: UpstreamPort) -> bool:
        return conn.reused and self._replay is not None and self.head.method in IDEMPOTENT

    def _use(self, conn: UpstreamPort) -> None:
        self.state = WAITING
        self.conn = conn
        self.upstream_address = conn.address
        conn.begin(self)

    def _await_response(self, conn: UpstreamPort) -> None:
        route = self.route
        if route is not None:
            conn.await_response(route.timeouts.read)

    def _pump(self) -> None:
        """Send upstream what can be sent now: the head as soon as its framing is known, then the body."""
        conn = self.conn
        if conn is None or self._request_sent:
            return
        data = b""
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        eos = self._request_eos
        head = self._head_out
        if head is not None:
            framing = self.head.framing
            if self.chain is not None and self.chain.reads_request_body and (framing or data):
                if not data and not eos:
                    return
                framing = length_line(len(data)) if eos else CHUNKED_LINE
            self._head_out = None
            self._request_chunked = framing == CHUNKED_LINE
            out = b"%b%b\r\n" % (head, framing)
            self._replay = None if data else out
            if self._request_chunked:
                out += chunk(data, eos)
            elif data:
                out += data
        else:
            if data:
                self._replay = None
            out = chunk(data, eos) if self._request_chunked else data
        if data:
            self._pending.clear()
            self._pending_bytes = 0
        if out:
            conn.send(out)
        if eos:
            self._request_sent = True
            self._await_response(conn)

    def _regulate_request(self) -> None:
        """Read the client no faster than the upstream and the plugins take it."""
        pause = self._upstream_blocked or self._pending_bytes > HIGH_WATER_BYTES
        if not pause and self.chain is not None:
            pause = self.chain.request_backlog > HIGH_WATER_BYTES
        if self.state > RESPONDING or self.request_done:
            pause = False
        if pause != self._client_paused:
            self._client_paused = pause
            if pause:
                self.client.pause_body()
            else:
                self.client.resume_body()

    def _let_go(self) -> None:
        """The upstream has answered in full. If it did so before it had the whole request, its connection is spoilt."""
        conn = self.conn
        if conn is not None:
            self.conn = None
            if self._request_sent:
                conn.release()
            else:
                conn.close()

    # Towards the client.

    def _fail(self, kind: str) -> None:
        """Answer with the gateway's own reply, through the chain unless that has already seen a response."""
        reply = reply_for(kind)
        self._reply(reply.status, reply.head, reply.body, self.state < RESPONDING)

    def _reply(self, status: int, head: bytes, body: bytes, through_chain: bool) -> None:
        conn = self.conn
        if conn is not None:
            self.conn = None
            conn.close()
        self.state = REPLYING
        self._status = status
        self._length = len(body)
        self._head_is_all = not body
        chain = self.chain
        if chain is None or not through_chain:
            self._head_held = head
            self._emit(body, True)
            return
        self._head_held = None
        self._depth += 1
        chain.response_head(head, length_line(len(body)), not body)
        if body and self.state == REPLYING:
            chain.response_body(body, True)
        self._leave()

    def _emit(self, data: bytes, eos: bool) -> None:
        """Send to the client, behind the held head if there is one."""
        head = self._head_held
        if head is not None:
            self._head_held = None
            out = self._frame_response(head, data, eos)
            self.serving.counters.responses[self._status // 100] += 1
            self._on_wire = True
            self.client.send(out)
        elif self._response_chunked:
            out = chunk(data, eos)
            if out:
                self.client.send(out)
        elif data and has_body(self.head.method, self._status):
            self.client.send(data)
        if eos and self.state != DONE:
            self._end(self._outcome)

    def _frame_response(self, head: bytes, data: bytes, eos: bool) -> bytes:
        """The whole head, decided by what is known now, and the data behind it as the body's beginning."""
        request = self.head
        keep_alive = request.keep_alive and self.request_done and not self.serving.draining
        length = self._length
        rewritten = self.chain is not None and self.chain.reads_response_body
        framing = b""
        if has_body(request.method, self._status):
            if rewritten:
                length = len(data) if eos else CHUNKED
            if length >= 0:
                framing = length_line(length)
            elif request.minor_version == 1:
                framing = CHUNKED_LINE
                self._response_chunked = True
                data = chunk(data, eos)
            else:
                keep_alive = False
        else:
            data = b""
            if length >= 0 and not rewritten and self._status != 204:
                framing = length_line(length)
        if not keep_alive:
            return b"%b%b%b\r\n%b" % (head, framing, CLOSE_LINE, data)
        self._outcome = KEPT
        if request.minor_version == 0:
            framing += KEEP_ALIVE_LINE
        return b"%b%b\r\n%b" % (head, framing, data)

    def _flush_head(self) -> None:
        """Let a head go that waits for its body, if its framing does not depend on it."""
        if self._head_held is not None and not (self.chain is not None and self.chain.reads_response_body):
            self._emit(b"", False)

    def _regulate_response(self) -> None:
        """Read the upstream no faster than the client and the plugins take it."""
        conn = self.conn
        if conn is None:
            return
        pause = self._client_blocked
        if not pause and self.chain is not None:
            pause = self.chain.response_backlog > HIGH_WATER_BYTES
        if pause != self._upstream_paused:
            self._upstream_paused = pause
            if pause:
                conn.pause_reading()
            else:
                conn.resume_reading()

    # The end.

    def _leave(self) -> None:
        """A call of the chain has returned: send what was held meanwhile."""
        self._depth -= 1
        if self._depth:
            return
        if self.state == DONE:
            self._settle()
            return
        self._pump()
        self._flush_head()

    def _cut(self) -> None:
        self._end(CUT)

    def _end(self, outcome: int) -> None:
        self.state = DONE
        self._outcome = outcome
        conn = self.conn
        if conn is not None:
            self.conn = None
            conn.close()
        if not self._depth:
            self._settle()

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        if self.chain is not None:
            self.chain.finish()
        outcome = self._outcome
        if outcome == CUT:
            # Without a length or chunks the end of the connection is the end of the body: only a reset tells the loss.
            self.client.cut(hard=self._on_wire and not self._response_chunked and self._length < 0)
        elif outcome != GONE:
            self.client.response_done(outcome == KEPT)
