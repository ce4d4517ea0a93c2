"""One plugin's place in a request's chain, and where it holds the request or the response.

The law: links are made for every request, so what most requests never need stands in the class and costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from data_plane.config.snapshot import FailurePolicy, PluginBinding
from shared.plugin.program import ErrorResponse
from shared.proxy_wasm.abi import Direction
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.vm import HttpContext, PluginContext

if TYPE_CHECKING:
    from data_plane.plugins.stream import HeadStream


class LinkSlot(Protocol):
    """A binding's place in the runtime."""

    @property
    def binding(self) -> PluginBinding: ...

    @property
    def context(self) -> PluginContext | None: ...

    @property
    def retired(self) -> bool:
        """Its binding is no longer configured: the runtime waits for the last stream."""


class Stop:
    """Where a direction waits. `pieces` came after a paused head; with a paused body they are the plugin's own copies,
    kept only under fail_open, where they must go on if the VM dies with them. `trailers` are those that have come meanwhile."""

    __slots__ = ("eos", "framing", "head", "pieces", "size", "trailers")

    def __init__(self, head: bytes | None, framing: bytes, eos: bool) -> None:
        self.head = head
        self.framing = framing
        self.eos = eos
        self.pieces: list[bytes] = []
        self.size = 0
        self.trailers: bytes | None = None


NO_STOPS: tuple[Stop | None, Stop | None] = (None, None)


class LinkChain(Protocol):
    """The chain of a request or of a TCP connection, as its links see it."""

    @property
    def properties(self) -> dict[bytes, bytes]: ...

    def apply(self, link: Any, outcome: Outcome) -> None: ...  # noqa: ANN401 - each kind of chain has links of its own

    def vm_failed(self, link: Any, failure: VmFailed) -> None: ...  # noqa: ANN401


class Link:
    """One plugin on one request. `context` is None when the plugin could not start, or has failed.

    `answered` is what the plugin has said before there was a chain, if that was not to go on.
    """

    stops = NO_STOPS
    passed: tuple[bytes | None, bytes | None] = (None, None)
    chain: LinkChain | None = None
    answered: Outcome | VmFailed | None = None
    own_properties: dict[bytes, bytes] | None = None
    # Whether the plugin sees the framing line behind a head.
    framed = True

    def __init__(self, slot: LinkSlot, facts: StreamFacts, stream: HeadStream | None = None) -> None:
        """`stream`: it has been without a chain until now."""
        self.slot = slot
        self.facts = facts
        self.context: HttpContext | None
        if stream is None:
            context = slot.context
            self.context = None if context is None else HttpContext(context, self)
        else:
            self.context = stream
            self.answered = stream.answered
            self.own_properties = stream.own_properties
            stream.link = self

    def recall(self) -> Outcome | None:
        """What the plugin has answered before the chain took over. Raises VmFailed."""
        answer, self.answered = self.answered, None
        if isinstance(answer, VmFailed):
            raise answer
        return answer

    def apply(self, outcome: Outcome) -> None:
        """Another context's callback acted on this stream."""
        if self.chain is not None:
            self.chain.apply(self, outcome)

    @property
    def waits(self) -> bool:
        """The plugin holds its stream back."""
        return any(stop is not None for stop in self.stops)

    @property
    def policy(self) -> FailurePolicy:
        return self.slot.binding.plugin.failure_policy

    @property
    def error_response(self) -> ErrorResponse | None:
        """The body of the plugin's own errors (`_meta.error_response`)."""
        return self.slot.binding.error_response

    def stop(self, direction: Direction, stop: Stop | None) -> None:
        self.stops = (self.stops[0], stop) if direction else (stop, self.stops[1])

    def pass_on(self, direction: Direction, head: bytes) -> None:
        """The head as this plugin left it."""
        self.passed = (self.passed[0], head) if direction else (head, self.passed[1])

    def plugin_properties(self) -> dict[bytes, bytes]:
        assert self.chain is not None
        return self.chain.properties
