"""One TCP connection in one plugin: the L4 callbacks of the ABI.

The law: as for an HttpContext (vm.py): a phase answers None (go on, unchanged) or an Outcome; a VM that fails raises VmFailed
and nothing is called in it any more. What a paused callback holds lies in the VM until `take`.
"""

from __future__ import annotations

from enum import IntEnum

from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.calls import StreamCall
from shared.proxy_wasm.failures import GuestTrap
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext


class Peer(IntEnum):
    """Who closed a connection."""

    UNKNOWN = 0
    LOCAL = 1
    REMOTE = 2


DATA_CALLBACKS = ("proxy_on_downstream_data", "proxy_on_upstream_data")
CLOSE_CALLBACKS = ("proxy_on_downstream_connection_close", "proxy_on_upstream_connection_close")


class TcpContext(HttpContext):
    """Direction REQUEST is downstream, RESPONSE upstream. Begin with `new_connection`; end with `finish`, once."""

    __slots__ = ()

    def reads(self, direction: Direction) -> bool:
        """The plugin takes this direction's bytes."""
        return DATA_CALLBACKS[direction] in self.vm.callbacks

    def new_connection(self) -> Outcome | None:
        if self.vm.failed is None:
            self.opened = True
            self.vm.streams[self.id] = self
        return self._phase(self.vm.new_connection, b"", self.root.id, 0)

    def data(self, direction: Direction, data: bytes, eos: bool) -> Outcome | None:
        """A paused outcome holds the piece behind what is held already."""
        return self._phase(self.vm.tcp_data, data, direction, eos)

    def held(self, direction: Direction) -> int:
        """Bytes held by a pause."""
        vm = self.vm
        return vm.call(vm.tcp_held, self.id, direction)

    def take(self, direction: Direction) -> bytes:
        """After a pause: what the plugin held."""
        vm = self.vm
        return vm.output(vm.call(vm.tcp_take, self.id, direction))

    def closed(self, direction: Direction, peer: Peer) -> None:
        """The connection to the client (REQUEST) or to the upstream (RESPONSE) is gone."""
        if CLOSE_CALLBACKS[direction] in self.vm.callbacks:
            self._phase(self.vm.tcp_closed, b"", direction, peer)

    def _phase(self, phase: StreamCall, data: bytes, argument: int, flags: int) -> Outcome | None:
        vm = self.vm
        if vm.failed is not None:
            raise vm.failed
        try:
            answer = phase(data, self.id, argument, flags)
        except GuestTrap as trap:
            raise vm.fail(trap) from None
        return vm.outcome(self, answer) if answer else None
