"""An exchange's half towards the upstream: which node and connection the request takes, and how fast it goes there.

The law: the request is sent at most once to a connection, and again to another one only when that is safe; the client is read
no faster than the upstream reads, and the upstream no faster than the client.

| what happened                                                 | what follows                                             |
|---------------------------------------------------------------|----------------------------------------------------------|
| no connection came about: nothing was sent                    | another node, whatever the request                       |
| a connection that had been idle ended, not a byte came back   | the same node on a new connection, which is no retry     |
| the connection ended or timed out, not a byte came back       | another node                                             |
| an invalid response, any status, anything after a first byte  | the client is told                                       |

The second and third ask for an idempotent method and that nothing of a body was sent. No node is tried twice as long as there
are others, and none at all once the upstream's `retries` are spent or its `retry_timeout` is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import with_host
from data_plane.exchange.messages import RequestHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.exchange.requester import Requester
from data_plane.exchange.watched import Watched

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Route, Upstream
    from data_plane.exchange.ports import ClientPort, Serving, UpstreamPort

STARTING, CONNECTING, WAITING, RESPONDING, REPLYING, DONE = range(6)
STATES = ("STARTING", "CONNECTING", "WAITING", "RESPONDING", "REPLYING", "DONE")

# Held for a slow upstream or a paused plugin before the client is no longer read; a transport holds as much again.
HIGH_WATER_BYTES = 64 * 1024
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
# What another node may do better, as nginx has it by default: not that a response was bad.
RETRIED = frozenset({"upstream_closed", "upstream_read_timeout", "upstream_send_timeout"})

NO_TIMEOUT = float("inf")

# Who cannot take more, and who therefore is not read.
CLIENT_BLOCKED, UPSTREAM_PAUSED, UPSTREAM_BLOCKED, CLIENT_PAUSED = 1, 2, 4, 8


@mypyc_attr(allow_interpreted_subclasses=True)
class Sending(Requester):
    """Base of the exchange, and the home of its state."""

    # `_began` and `_key` are there once `_tried` is not empty.
    __slots__ = (
        "_began",
        "_chunked",
        "_flow",
        "_keep_alive",
        "_key",
        "_length",
        "_on_wire",
        "_outgoing",
        "_tried",
        "_wire",
        "client",
        "conn",
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

    @property
    def send_timeout(self) -> float:
        """Seconds that the upstream may take to read what was sent."""
        return 0.0 if self.route is None else self.route.timeouts.send

    def _fail(self, kind: str) -> None:
        """The request gets nowhere; a row of replies.py says why."""
        raise NotImplementedError

    # Events of the upstream, until it answers.

    def upstream_ready(self, conn: UpstreamPort) -> None:
        """A connection is open. One that is no longer wanted goes to the pool."""
        if self.state == CONNECTING:
            self._use(conn)
        else:
            conn.release()

    def upstream_failed(self, kind: str) -> None:
        """No connection came about."""
        if self.state == CONNECTING:
            self.serving.counters.upstream_error(kind, self.route, self.node)
            problem = self._retry(kind)
            if problem:
                self._fail(problem)

    def upstream_blocked(self) -> None:
        self._flow |= UPSTREAM_BLOCKED
        self._regulate_request()

    def upstream_writable(self) -> None:
        self._flow &= ~UPSTREAM_BLOCKED
        self._regulate_request()

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
            self._send_chosen(head, route, upstream)
            return
        request = self.head
        if upstream.pass_host != "pass" or not request.fields.authority:
            head = self._address(head, upstream, node)
        outgoing = self._outgoing
        if outgoing is None:
            self._wire = head + request.fields.framing + b"\r\n"
        else:
            outgoing.begin(head)
        conn = self.serving.pool.take(node, request.fields.length != 0 or request.method not in IDEMPOTENT)
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

    def _send_chosen(self, head: bytes, route: Route, upstream: Upstream) -> None:
        """`_send` where the picker looks at the request or hears of attempts."""
        picker = upstream.picker
        if picker.at_once:
            self._fail("no_nodes")
            return
        self._began = picker.clock()
        self._key = picker.key(head, self.client)
        node = picker.choose(self._key, ())
        if node is None:
            self._fail("no_nodes")
            return
        fields = self.head.fields
        if upstream.pass_host != "pass" or not fields.authority:
            head = self._address(head, upstream, node)
        if self._outgoing is None:
            self._wire = head + fields.framing + b"\r\n"
        else:
            self._outgoing.begin(head)
        self._attempt_at(node, upstream, fields.length != 0 or self.head.method not in IDEMPOTENT)

    def _attempt_at(self, node: Node, upstream: Upstream, checked: bool) -> None:
        self.node = node
        self._tried += (node,)
        conn: UpstreamPort | None = self.serving.pool.take(node, checked)
        if conn is None:
            self._connect(node, upstream)
            return
        attempt = upstream.picker.begin(node)
        self._use(conn if attempt is None else Watched(self, attempt).over(conn))

    def _connect(self, node: Node, upstream: Upstream) -> None:
        self.state = CONNECTING
        self.node = node
        route = self.route
        attempt = upstream.picker.begin(node)
        asking = self if attempt is None else Watched(self, attempt)
        self.serving.pool.connect(node, upstream, upstream.timeouts if route is None else route.timeouts, asking)

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

    def _recover(self, conn: UpstreamPort | None, kind: str) -> str:
        """After the loss of a connection. Empty when the request is on its way again, else what to fail with."""
        unsent = self._outgoing is None or not self._outgoing.body_sent
        is_safe = self.state == WAITING and unsent and self.head.method in IDEMPOTENT and conn is not None and not conn.heard
        node, upstream = self.node, None if self.route is None else self.route.upstream
        had_ended = conn is not None and conn.reused and kind == "upstream_closed"
        counters = self.serving.counters
        if is_safe and had_ended and node is not None and upstream is not None:
            counters.upstream_retries += 1
            if self._outgoing is not None:
                self._outgoing.rewind()
            self._connect(node, upstream)
            return ""
        counters.upstream_error(kind, self.route, node)
        return self._retry(kind) if is_safe and kind in RETRIED else kind

    def _retry(self, kind: str) -> str:
        """Attempt another node after a failure of this kind. Empty when that is under way, else what to fail with."""
        upstream = None if self.route is None else self.route.upstream
        node = self.node
        if upstream is None or node is None:
            return kind
        picker = upstream.picker
        tried = self._tried
        if not tried:
            # It went the short way, and the upstream may have been given another picker since.
            tried = (node,)
            self._began, self._key = picker.clock(), picker.key(self.head.open, self.client)
        if upstream.retries is not None and len(tried) > upstream.retries:
            return kind
        if upstream.retry_timeout and picker.clock() - self._began >= upstream.retry_timeout:
            return "upstream_retry_timeout"
        another = picker.choose(self._key, tried)
        if another is None:
            # A node that is the only one may be tried again, if somebody asks for retries.
            if upstream.retries is None or tried.count(node) < len(tried):
                return kind
            another = node
        self._tried = tried
        self.serving.counters.upstream_retries += 1
        if upstream.pass_host == "node":
            self._wire = with_host(self._wire, another.authority)
        if self._outgoing is not None:
            self._outgoing.rewind()
            if upstream.pass_host == "node":
                self._outgoing.address(another.authority)
        self._attempt_at(another, upstream, True)
        return ""

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

    def _drop_upstream(self) -> None:
        conn = self.conn
        if conn is not None:
            self.conn = None
            conn.close()
