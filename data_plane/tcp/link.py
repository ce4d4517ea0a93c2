"""One plugin's place in a connection's chain, and what it holds of either direction.

The law: the bytes that a paused callback was shown lie in the plugin's VM; the link has copies only under fail_open, where
they must go on if the VM dies with them, and of bytes that the plugin does not take.
"""

from __future__ import annotations

from data_plane.plugins.link import Link, LinkSlot
from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.tcp import TcpContext


class TcpLink(Link):
    """`keeps_waiting`: it has paused the new connection. `held` are bytes by direction, as the plugin has left them."""

    context: TcpContext | None  # type: ignore[mutable-override]  # a link of HTTP never meets this one

    def __init__(self, slot: LinkSlot, facts: StreamFacts) -> None:
        """Raises OverflowError."""
        self.slot = slot
        self.facts = facts
        root = slot.context
        self.context = None if root is None else TcpContext(root, self)
        self.fails_open = self.policy == "fail_open"
        self.keeps_waiting = False
        self.held = [0, 0]
        self._stopped = [False, False]
        self._eos = [False, False]
        self._pieces: tuple[list[bytes], list[bytes]] = ([], [])
        self._limit = slot.binding.plugin.limits.body_buffer_bytes

    @property
    def waits(self) -> bool:
        return self.keeps_waiting or any(self._stopped)

    def holds(self, direction: Direction) -> bool:
        return self._stopped[direction]

    def is_full(self, direction: Direction) -> bool:
        return self.held[direction] >= self._limit

    def keep(self, direction: Direction, data: bytes, eos: bool) -> None:
        """The plugin keeps this piece behind what it keeps already."""
        self._stopped[direction] = True
        self._eos[direction] = eos
        if self.fails_open and data:
            self._pieces[direction].append(data)

    def hold(self, direction: Direction, data: bytes, eos: bool) -> None:
        """A piece waits that is not the plugin's to see."""
        self._stopped[direction] = True
        self._eos[direction] = eos
        self.held[direction] += len(data)
        self._pieces[direction].append(data)

    def pieces(self, direction: Direction) -> bytes:
        return b"".join(self._pieces[direction])

    def let_go(self, direction: Direction) -> bool:
        """Nothing is kept any more; whether the direction's end was behind it."""
        eos = self._eos[direction]
        self._stopped[direction] = self._eos[direction] = False
        self.held[direction] = 0
        self._pieces[direction].clear()
        return eos
