"""One request in one plugin that takes no bodies, without a chain: a PluginStream.

The law: it is the plugin's HttpContext itself, since most requests need nothing else. What the plugin said last, when that was
not to go on, is kept in `answered` for the chain that then takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from shared.proxy_wasm.abi import Effect, MapType
from shared.proxy_wasm.failures import GuestTrap, VmFailed
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.vm import HttpContext, PluginContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_plane.plugins.link import Link
    from data_plane.plugins.slots import ContextSlot
    from shared.proxy_wasm.interface import StreamOwner


# Nobody asks about a request that is over, and it should not be kept.
_OVER = cast(StreamFacts, None)
_GOES_ON = Effect.CHANGED | Effect.OTHERS


class HeadStream(HttpContext):
    """`link` is its place in a chain, once there is one. After `last_response` the runtime may use it for another request."""

    __slots__ = ("answered", "facts", "link", "own_properties", "slot")

    def __init__(self, slot: ContextSlot, root: PluginContext, facts: StreamFacts) -> None:
        """Raises OverflowError."""
        self.id = root.ids.take()
        self.root = root
        self.vm = root.vm
        self.slot = slot
        self.facts = facts
        self.link: Link | None = None
        self.own_properties: dict[bytes, bytes] | None = None
        self.answered: Outcome | VmFailed | None = None
        self.before_end: Callable[[HttpContext], None] | None = None
        self.opened = True
        root.streams += 1
        self.vm.streams[self.id] = self

    # --- PluginStream

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        vm = self.vm
        try:
            answer = vm.request_headers(head + framing, self.id, self.root.id, eos)
        except (GuestTrap, VmFailed) as failure:
            return self._failed(failure)
        return answer if isinstance(answer, bytes) else self._kept(vm.outcome(self, answer))

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        vm = self.vm
        if self.answered is not None or vm.failed is not None:
            return self._failed(vm.failed)
        try:
            answer = vm.response_headers(head + framing, self.id, self.root.id, eos)
        except (GuestTrap, VmFailed) as failure:
            return self._failed(failure)
        return answer if isinstance(answer, bytes) else self._kept(vm.outcome(self, answer))

    def last_response(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        vm = self.vm
        if self.answered is not None or vm.failed is not None:
            return self._failed(vm.failed)
        root, stream_id = self.root, self.id
        try:
            answer = vm.last_response(head + framing, stream_id, root.id, eos)
        except (GuestTrap, VmFailed) as failure:
            return self._failed_at_last(failure)
        if not isinstance(answer, bytes):
            return self._looked_at(vm.outcome(self, answer))
        del vm.streams[stream_id]
        root.streams -= 1
        self.facts = _OVER
        self.own_properties = None
        root.ids.keep(self)
        if self.slot.retired:
            self.slot.release_if_idle()
        return answer

    def end(self, request: bytes | None, response: bytes | None) -> None:
        """As `finish`, of one that the runtime may use for another request. Raises VmFailed."""
        vm = self.vm
        stale = 0
        if request is not None or response is not None:
            self.finals = (request, response)
            stale = (request is not None) << MapType.REQUEST_HEADERS | (response is not None) << MapType.RESPONSE_HEADERS
        try:
            if vm.failed is None and vm.finish(b"", self.id, stale, 0):
                vm.settle(self)
        except GuestTrap as trap:
            raise vm.fail(trap) from None
        finally:
            self._over()

    def withdraw(self) -> None:
        """The plugin has not heard of the stream, and may never."""
        self.opened = False
        del self.vm.streams[self.id]

    # --- what is not a head that goes on

    def _kept(self, outcome: Outcome) -> bytes | None:
        """What it logged has been said, and other streams know what concerns them: neither is another answer."""
        if outcome.paused or outcome.no_room or outcome.effects & ~_GOES_ON:
            self.answered = outcome
            return None
        return outcome.data or b""

    def _failed(self, failure: GuestTrap | VmFailed | None) -> bytes | None:
        if failure is not None and self.answered is None:
            self.answered = self.vm.fail(failure) if isinstance(failure, GuestTrap) else failure
        return None

    def _looked_at(self, outcome: Outcome) -> bytes | None:
        if not outcome.effects & Effect.FINISHED:
            self.answered = outcome
            return None
        self._over()
        return outcome.data or b""

    def _failed_at_last(self, failure: GuestTrap | VmFailed) -> bytes | None:
        """The response was good if the trap came after it, in on_log or so."""
        passed = self.vm.passed() if isinstance(failure, GuestTrap) else None
        if passed is None or not isinstance(failure, GuestTrap):
            return self._failed(failure)
        self._over()
        self.slot.vm_slot.vm_failed(self.vm.fail(failure))
        return passed

    def _over(self) -> None:
        """The plugin has heard of its end."""
        del self.vm.streams[self.id]
        self.root.streams -= 1
        self.facts = _OVER
        self.own_properties = None
        self.root.ids.keep(self)
        if self.slot.retired:
            self.slot.release_if_idle()

    def apply(self, outcome: Outcome) -> None:
        """Another context's callback acted on this stream. Without a chain nothing waits, so a reply or a reset comes with the
        next head.
        """
        if self.link is not None:
            self.link.apply(outcome)
        elif outcome.effects & (Effect.CLOSE | Effect.LOCAL_REPLY):
            self.answered = outcome

    # --- StreamOwner

    @property
    def owner(self) -> StreamOwner:
        return self if self.link is None else self.link

    def plugin_properties(self) -> dict[bytes, bytes]:
        if self.own_properties is None:
            self.own_properties = {}
        return self.own_properties
