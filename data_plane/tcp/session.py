"""One TCP session: a client, an upstream, what passes between them, and how it ends.

The law: bytes and ends of each direction come out as they came in, through the plugins; an end is never made up: what cannot be
completed is reset, on both sides. A side is not read while the other one does not take what is there, or a plugin holds as much
as it may. Nothing has been sent before the upstream is connected, so a node that refuses is passed over.

Pure: events come in as method calls, commands go out to ports (ports.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.tcp.facts import SessionFacts
from data_plane.tcp.ports import CLIENT, UPSTREAM, Attempt, ClientPort, SessionChain, SessionServing, Side, SidePort
from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.tcp import Peer

if TYPE_CHECKING:
    from data_plane.config.snapshot import Attempt as Balanced
    from data_plane.config.snapshot import Node, StreamRoute, Upstream

# How many bytes of a client wait for a connection to the upstream; as many as a transport's buffer holds.
HIGH_WATER = 64 * 1024

OPENING, CONNECTING, OPEN, OVER = range(4)


class Session(SessionFacts):
    __slots__ = (
        "_attempt",
        "_balanced",
        "_blocked",
        "_chain",
        "_closers",
        "_done",
        "_ended",
        "_paused",
        "_pending",
        "_pending_size",
        "_serving",
        "_state",
        "_timer",
        "_tried",
        "_upstream",
    )

    def __init__(self, serving: SessionServing, client: ClientPort, route: StreamRoute) -> None:
        super().__init__(client, route, serving.unix_time_ns())
        self._serving = serving
        self._upstream: SidePort | None = None
        self._timer = serving.timer(self.expired)
        self._chain: SessionChain | None = None
        self._attempt: Attempt | None = None
        self._state = OPENING
        self._tried: tuple[Node, ...] = ()
        # What the balancer hears of the attempt.
        self._balanced: Balanced | None = None
        # By side: reading is paused; its buffer is full; it has ended; its end has been passed on.
        self._paused = [False, False]
        self._blocked = [False, False]
        self._ended = [False, False]
        self._done = [False, False]
        # In the order in which the connections began to close, who did it.
        self._closers: dict[Side, Peer] = {}
        self._pending: list[bytes] = []
        self._pending_size = 0

    def __repr__(self) -> str:
        return f"<Session {self.client_address} state={self._state} received={self.received}>"

    # --- events

    def start(self, data: bytes) -> None:
        """`data` came before it was known which route this is."""
        route = self._route
        if route.upstream is None:
            self.abort()
            return
        self._touch()
        if route.bindings:
            self._chain = self._serving.open_chain(route.bindings, self, self)
            self._chain.new_connection()
        else:
            self.proceed()
        if data:
            self.data(CLIENT, data)

    def connected(self, upstream: SidePort) -> None:
        if self._state != CONNECTING:
            upstream.reset()
            return
        self._attempt = None
        if self._balanced is not None:
            self._balanced.answered(0)
        self._state = OPEN
        self._upstream = upstream
        self._touch()
        if self._pending_size:
            upstream.send(b"".join(self._pending))
        self._pending, self._pending_size = [], 0
        if self._done[CLIENT]:
            self._send_eof(UPSTREAM)
        self.regulate(CLIENT)

    def connect_failed(self) -> None:
        if self._state != CONNECTING:
            return
        self._attempt = None
        counters = self._serving.counters
        counters.upstream_errors += 1
        if self._balanced is not None:
            self._balanced.failed("upstream_connect_failed")
        upstream = self._route.upstream
        node = None if upstream is None else self._next_node(upstream)
        if node is None:
            self.abort()
        else:
            counters.upstream_retries += 1
            self._connect(node)

    def data(self, side: Side, data: bytes) -> None:
        if self._state == OVER:
            return
        self.received[side] += len(data)
        self._touch()
        if self._chain is not None:
            self._chain.data(side, data, False)
            self.regulate(side)
        else:
            self.forward(side, data, False)

    def eof(self, side: Side) -> None:
        """The side sends no more; it may still take."""
        if self._state == OVER or self._ended[side]:
            return
        self._ended[side] = True
        self._closers.setdefault(side, Peer.REMOTE)
        self._touch()
        if self._chain is not None:
            self._chain.data(side, b"", True)
        else:
            self.forward(side, b"", True)

    def lost(self, side: Side, is_reset: bool) -> None:
        """The side's connection is gone."""
        if self._state == OVER:
            return
        self._closers.setdefault(side, Peer.REMOTE)
        if is_reset:
            self._serving.counters.resets += 1
        self._end(is_reset)

    def blocked(self, side: Side) -> None:
        """The side does not take what was sent to it."""
        if self._state != OVER:
            self._blocked[side] = True
            self._touch()
            self.regulate(_other(side))

    def writable(self, side: Side) -> None:
        if self._state != OVER:
            self._blocked[side] = False
            self._touch()
            self.regulate(_other(side))

    def expired(self) -> None:
        """No byte has moved for too long."""
        if self._state != OVER:
            self._serving.counters.timeouts += 1
            self._end(is_reset=False)

    def stop(self) -> None:
        """The worker's time is over."""
        if self._state != OVER:
            self._end(is_reset=True)

    # --- what the chain says (SessionSink)

    def proceed(self) -> None:
        upstream = self._route.upstream
        node = None if upstream is None else self._next_node(upstream)
        if node is None:
            self.abort()
        elif self._state == OPENING:
            self._connect(node)

    def forward(self, direction: Direction, data: bytes, eos: bool) -> None:
        if self._state == OVER:
            return
        target = self._client if direction else self._upstream
        if target is None:
            self._hold(data)
        elif data:
            target.send(data)
        if eos:
            self._done[direction] = True
            if all(self._done):
                self._end(is_reset=False)
                return
            if target is not None:
                self._send_eof(_other(direction))
        self.regulate(direction)

    def regulate(self, direction: Direction) -> None:
        """Read on from where the direction's bytes come, or not."""
        if self._state == OVER or self._ended[direction]:
            return
        wants_pause = (
            self._blocked[_other(direction)]
            or (direction == CLIENT and self._pending_size >= HIGH_WATER)
            or (self._chain is not None and self._chain.is_full(direction))
        )
        if wants_pause is self._paused[direction]:
            return
        source = self._upstream if direction else self._client
        if source is not None:
            self._paused[direction] = wants_pause
            if wants_pause:
                source.pause_reading()
            else:
                source.resume_reading()

    def close(self) -> None:
        if self._state != OVER:
            self._end(is_reset=False)

    def abort(self) -> None:
        if self._state != OVER:
            self._serving.counters.aborted += 1
            self._end(is_reset=True)

    # --- in here

    def _touch(self) -> None:
        """Bytes have moved. While a connection is being made, its own time limit counts."""
        upstream = self._route.upstream
        if upstream is not None and self._state != CONNECTING:
            self._timer.set(upstream.timeouts.send if any(self._blocked) else upstream.stream_idle)

    def _connect(self, node: Node) -> None:
        upstream = self._route.upstream
        if upstream is not None:
            self._state = CONNECTING
            self._timer.clear()
            self._node = node
            self._tried += (node,)
            self._balanced = upstream.picker.begin(node)
            self._attempt = self._serving.connect(node, upstream, self)

    def _next_node(self, upstream: Upstream) -> Node | None:
        """One that was not tried yet, while there are retries left."""
        tried = self._tried
        if upstream.retries is not None and len(tried) > upstream.retries:
            return None
        picker = upstream.picker
        return picker.choose(picker.key(b"", self._client), tried) if tried or not picker.at_once else picker.pick()

    def _hold(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._pending_size += len(data)

    def _send_eof(self, side: Side) -> None:
        self._closers.setdefault(side, Peer.LOCAL)
        port = self._upstream if side else self._client
        if port is not None:
            port.send_eof()

    def _end(self, is_reset: bool) -> None:
        self._state = OVER
        self._timer.close()
        if self._balanced is not None:
            self._balanced.end()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        client, upstream, chain = self._client, self._upstream, self._chain
        for port in (client, upstream):
            if port is not None and is_reset:
                port.reset()
            elif port is not None:
                port.close()
        if chain is not None:
            self._tell_ends(chain)
        # What ends lets go of what it holds: chain and session would keep each other until the collector came by.
        self._upstream = self._chain = None
        self._pending = []
        self._serving.session_over(self)

    def _tell_ends(self, chain: SessionChain) -> None:
        self._closers.setdefault(CLIENT, Peer.LOCAL)
        if self._upstream is not None:
            self._closers.setdefault(UPSTREAM, Peer.LOCAL)
        for side, peer in self._closers.items():
            chain.closed(side, peer)
        chain.finish()


def _other(side: Side) -> Side:
    return UPSTREAM if side == CLIENT else CLIENT
