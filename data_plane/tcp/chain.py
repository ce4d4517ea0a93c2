"""A connection's way through its Wasm plugins: who is called next, who holds what, and what a plugin's answer means.

The law: a new connection and what the client sends pass the links in order, what the upstream sends in reverse (as in Envoy). A
link that pauses holds what it was shown, in its VM, where its next callback sees all of it; bytes that come while it keeps a
new connection waiting are shown to it as well, and its Continue then lets connection and bytes go on (as in Envoy), but a link
that takes no bytes waits for continue_stream. A failed plugin is skipped from then on (fail_open) or ends the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from data_plane.config.snapshot import PluginBinding
from data_plane.plugins.link import LinkSlot
from data_plane.plugins.slots import Unavailable
from data_plane.tcp.link import TcpLink
from data_plane.tcp.ports import CLIENT, UPSTREAM, SessionSink, Side
from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.tcp import Peer

_CONTINUE = (Effect.CONTINUE_REQUEST, Effect.CONTINUE_RESPONSE)


class ChainOwner(Protocol):
    """The plugin runtime, as a chain sees it."""

    def slots_of(self, bindings: tuple[PluginBinding, ...]) -> Sequence[LinkSlot]: ...

    def stream_failed(self, link: TcpLink, failure: VmFailed) -> None: ...

    def stream_ended(self, link: TcpLink) -> None: ...


class Nobody:
    """The sink of a finished chain."""

    def proceed(self) -> None: ...

    def forward(self, direction: Direction, data: bytes, eos: bool) -> None: ...

    def regulate(self, direction: Direction) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


NOBODY = Nobody()


class TcpChain:
    __slots__ = ("_links", "_owner", "_sink", "properties")

    def __init__(self, links: list[TcpLink], sink: SessionSink, owner: ChainOwner) -> None:
        self._links = links
        self._sink = sink
        self._owner = owner
        # What the connection's plugins have set with proxy_set_property.
        self.properties: dict[bytes, bytes] = {}
        for link in links:
            link.chain = self

    # --- events

    def new_connection(self) -> None:
        self._connect(0)

    def data(self, direction: Direction, data: bytes, eos: bool) -> None:
        self._pass(direction, 0, data, eos)

    def is_full(self, direction: Direction) -> bool:
        return any(link.is_full(direction) for link in self._links)

    def closed(self, side: Side, peer: Peer) -> None:
        """From now on nothing goes on: no sink call follows."""
        self._sink = NOBODY
        for link in self._links if side == CLIENT else self._links[::-1]:
            if link.context is not None and link.context.opened:
                try:
                    link.context.closed(side, peer)
                except VmFailed as failure:
                    self._drop(link, failure)

    def finish(self) -> None:
        links, self._links, self._sink = self._links, [], NOBODY
        for link in links:
            self._finish(link)

    # --- through the links

    def _connect(self, position: int) -> None:
        for link in self._links[position:]:
            context = link.context
            if context is None:
                if not link.fails_open:
                    self._sink.abort()
                    return
                continue
            try:
                outcome = context.new_connection()
            except VmFailed as failure:
                if not self._failed(link, failure):
                    return
                continue
            if outcome is not None and not self._lets_connect(link, outcome):
                return
        self._sink.proceed()

    def _lets_connect(self, link: TcpLink, outcome: Outcome) -> bool:
        if self._ended(outcome):
            return False
        link.keeps_waiting = outcome.paused and not outcome.effects & Effect.CONTINUE_REQUEST
        return not link.keeps_waiting

    def _pass(self, direction: Direction, position: int, data: bytes, eos: bool) -> None:
        for link in self._ordered(direction)[position:]:
            passed = self._through(link, direction, data, eos)
            if passed is None:
                return
            data = passed
        self._sink.forward(direction, data, eos)

    def _through(self, link: TcpLink, direction: Direction, data: bytes, eos: bool) -> bytes | None:
        """The bytes that go on now, or None."""
        context = link.context
        if context is None:
            return data
        if not context.reads(direction):
            if direction == UPSTREAM or not link.keeps_waiting:
                return data
            link.hold(direction, data, eos)
            return None
        try:
            outcome = context.data(direction, data, eos)
            if outcome is not None and outcome.paused:
                link.held[direction] = context.held(direction)
        except VmFailed as failure:
            link.keep(direction, data, eos)
            if self._failed(link, failure):
                self._release(link, direction)
            return None
        return self._outcome(link, direction, outcome, data, eos)

    def _outcome(self, link: TcpLink, direction: Direction, outcome: Outcome | None, data: bytes, eos: bool) -> bytes | None:
        if outcome is not None:
            if outcome.no_room or self._ended(outcome):
                if outcome.no_room:
                    self._sink.abort()
                return None
            if outcome.paused:
                link.keep(direction, data, eos)
                self._resume_told(link, outcome)
                return None
        link.let_go(direction)
        if direction == CLIENT and link.keeps_waiting:
            link.keeps_waiting = False
            self._connect(self._links.index(link) + 1)
        if outcome is not None:
            self._resume_told(link, outcome)
        return data if outcome is None or outcome.data is None else outcome.data

    def _ordered(self, direction: Direction) -> list[TcpLink]:
        return self._links[::-1] if direction else self._links

    # --- what plugins ask for

    def apply(self, link: TcpLink, outcome: Outcome) -> None:
        """Another context's callback acted on this connection."""
        if link.context is not None and not self._ended(outcome):
            self._resume_told(link, outcome)

    def _ended(self, outcome: Outcome) -> bool:
        if outcome.effects & Effect.CLOSE:
            self._sink.close()
            return True
        return False

    def _resume_told(self, link: TcpLink, outcome: Outcome) -> None:
        for direction in (CLIENT, UPSTREAM):
            if outcome.effects & _CONTINUE[direction]:
                self._resume(link, direction)

    def _resume(self, link: TcpLink, direction: Direction) -> None:
        context = link.context
        if context is None:
            return
        if direction == CLIENT and link.keeps_waiting:
            link.keeps_waiting = False
            self._connect(self._links.index(link) + 1)
        if not link.holds(direction) or link.context is None:
            return
        try:
            data = context.take(direction) if context.reads(direction) else link.pieces(direction)
        except VmFailed as failure:
            if self._failed(link, failure):
                self._release(link, direction)
            return
        self._go_on(link, direction, data)

    def _go_on(self, link: TcpLink, direction: Direction, data: bytes) -> None:
        eos = link.let_go(direction)
        sink = self._sink
        self._pass(direction, self._ordered(direction).index(link) + 1, data, eos)
        sink.regulate(direction)

    # --- failure

    def vm_failed(self, link: TcpLink, failure: VmFailed) -> None:
        """The link's VM died in another stream's callback. One that waits for it must be told; others notice by themselves."""
        waits = link.keeps_waiting or link.holds(CLIENT) or link.holds(UPSTREAM)
        if link.context is not None and waits and self._failed(link, failure):
            self._release(link, CLIENT)

    def _drop(self, link: TcpLink, failure: VmFailed) -> None:
        self._owner.stream_failed(link, failure)
        self._finish(link)

    def _finish(self, link: TcpLink) -> None:
        context, link.context = link.context, None
        if context is None:
            return
        try:
            context.finish()
        except VmFailed as failure:
            self._owner.stream_failed(link, failure)
        self._owner.stream_ended(link)

    def _failed(self, link: TcpLink, failure: VmFailed) -> bool:
        """True when the session goes on without the plugin."""
        self._drop(link, failure)
        if not link.fails_open:
            self._sink.abort()
        return link.fails_open

    def _release(self, link: TcpLink, direction: Direction) -> None:
        """What a failed plugin kept goes on as it came: this direction first."""
        if link.keeps_waiting:
            link.keeps_waiting = False
            self._connect(self._links.index(link) + 1)
        for held in (direction, UPSTREAM if direction == CLIENT else CLIENT):
            if link.holds(held) and self._links:
                self._go_on(link, held, link.pieces(held))


def open_chain(owner: ChainOwner, bindings: tuple[PluginBinding, ...], sink: SessionSink, facts: StreamFacts) -> TcpChain:
    """The chain of a new connection."""
    links = []
    for slot in owner.slots_of(bindings):
        try:
            links.append(TcpLink(slot, facts))
        except OverflowError:
            # As many streams as a VM has contexts: to this one the plugin is not there.
            links.append(TcpLink(Unavailable(slot.binding), facts))
    return TcpChain(links, sink, owner)
