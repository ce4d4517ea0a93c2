"""An exchange's half towards the upstream: which node and connection the request takes, and how fast it goes there.

The law: the request is sent at most once to a connection, and again to another one only when exchange.py's rule allows it; the
client is read no faster than the upstream reads, and the upstream no faster than the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.framing import with_host
from data_plane.exchange.messages import RequestHead, ResponseHead
from data_plane.exchange.outgoing import Outgoing

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

NO_TIMEOUT = float("inf")

# Who cannot take more, and who therefore is not read.
CLIENT_BLOCKED, UPSTREAM_PAUSED, UPSTREAM_BLOCKED, CLIENT_PAUSED = 1, 2, 4, 8


@mypyc_attr(allow_interpreted_subclasses=True)
class Sending:
    """Base of the exchange, and the home of its state."""

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

    # Whether `upstream_trailers` is told those of a response.
    keeps_trailers = False
    # Whether `upstream_switched` may be told.
    upgrades = False

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

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        raise NotImplementedError

    def upstream_interim(self, response: ResponseHead) -> None:
        """A response that precedes the final one, other than 100 and 101."""

    def upstream_switched(self, response: ResponseHead, early: bytes) -> None:
        """A 101, and what came behind it; the connection is not read on."""
        raise NotImplementedError

    def upstream_body(self, data: bytes, eos: bool) -> None:
        raise NotImplementedError

    def upstream_trailers(self, lines: bytes) -> None:
        """The field lines behind a body, told before its end."""

    def upstream_lost(self, kind: str) -> None:
        raise NotImplementedError

    # Events of the upstream, until it answers.

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
        counters.upstream_error(kind, self.route, self.node)
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
