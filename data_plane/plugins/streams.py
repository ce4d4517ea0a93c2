"""One request in several plugins that take no bodies, without a chain: a PluginStream.

The law: as of one (stream.py), of each in its turn: requests in the order of the plugins, responses in the opposite one. When
one says anything but to go on, the chain that takes over asks them all anew: those that have been asked repeat what they said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.proxy_wasm.abi import Effect
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome

if TYPE_CHECKING:
    from data_plane.plugins.slots import VmSlot
    from data_plane.plugins.stream import HeadStream


class HeadStreams:
    """`requests` and `responses` are the heads as each plugin left them, in the order of the plugins."""

    __slots__ = ("_failed", "requests", "responses", "streams")

    def __init__(self, streams: list[HeadStream], failed: Callable[[VmSlot, VmFailed], None]) -> None:
        self.streams = streams
        self.requests: list[bytes] = []
        self.responses: list[bytes] = []
        self._failed = failed
        properties: dict[bytes, bytes] = {}
        for stream in streams:
            # What one sets, the others read.
            stream.own_properties = properties

    # --- PluginStream

    def request_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        passed = head
        heads: list[bytes] = []
        for stream in self.streams:
            answer = stream.request_head(passed, framing, eos)
            if answer is None:
                _repeat(self.streams, head, heads)
                for unasked in self.streams[len(heads) + 1 :]:
                    unasked.withdraw()
                return None
            passed = answer or passed
            heads.append(passed)
        self.requests = heads
        return b"" if passed is head else passed

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        passed = head
        heads: list[bytes] = []
        streams = self.streams[::-1]
        for stream in streams:
            answer = stream.response_head(passed, framing, eos)
            if answer is None:
                _repeat(streams, head, heads)
                return None
            passed = answer or passed
            heads.append(passed)
        heads.reverse()
        self.responses = heads
        return b"" if passed is head else passed

    def last_response(self, head: bytes, framing: bytes, eos: bool) -> bytes | None:
        passed = self.response_head(head, framing, eos)
        if passed is not None:
            self.finish()
        return passed

    def finish(self) -> None:
        """The end of all of them, in order. One that fails there spoils nothing but its own VM."""
        requests, responses = self.requests, self.responses
        for position, stream in enumerate(self.streams):
            request = response = None
            if stream.vm.logs_streams:
                if requests and requests[-1] is not requests[position]:
                    request = requests[-1]
                if responses and responses[0] is not responses[position]:
                    response = responses[0]
            try:
                stream.end(request, response)
            except VmFailed as failure:
                self._failed(stream.slot.vm_slot, failure)


def _repeat(streams: list[HeadStream], head: bytes, heads: list[bytes]) -> None:
    before = head
    for stream, after in zip(streams, heads, strict=False):
        if stream.answered is None:
            changed = after is not before
            stream.answered = Outcome(0, Effect.CHANGED if changed else 0, after if changed else None)
        before = after
