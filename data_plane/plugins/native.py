"""Native plugins in a chain with Wasm plugins.

The law: what stands side by side (arrangement.py) is one link, which does for its plugins what a VM does for its guest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from data_plane.config.snapshot import FailurePolicy, PluginBinding
from data_plane.plugins.arrangement import Arrangement, Steps, arrange_rest
from data_plane.plugins.chain import ChainOwner, WasmChain
from data_plane.plugins.interface import ChainSink, PluginRuntime, StreamInfo
from data_plane.plugins.link import Link, LinkSlot, Stop
from data_plane.plugins.replies import reply_as_sent
from shared.plugin.body import WholeBody
from shared.plugin.facts import Asked, ExchangeFacts
from shared.plugin.head import value_bytes
from shared.plugin.program import RequestStep, run_logs, step_name
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.plugin.switch import Switch
from shared.proxy_wasm.abi import Direction, Effect, MapType
from shared.proxy_wasm.outcome import Outcome, SentReply
from shared.proxy_wasm.replies import BODY_TOO_LARGE, PLUGIN_FAILED
from shared.proxy_wasm.vm import HttpContext

if TYPE_CHECKING:
    from data_plane.config.snapshot import Upstream

_PAUSE = 1
_GOES_ON = Outcome(0, Effect.CONTINUE_REQUEST)
_TOO_LARGE = SentReply(*BODY_TOO_LARGE[Direction.REQUEST], None)
# To the links that have taken the place of those that were there.
_GOES_ON_ANEW = Outcome(_PAUSE, Effect.CONTINUE_REQUEST)


class _NoSlot:
    """Stands for what a native link has not: a binding's place among the VMs."""

    retired = False
    context = None


class _Callbacks:
    """As a VM says which callbacks its guest has."""

    reads_request_body = False
    reads_trailers = False
    logs_streams = False

    def __init__(self, reads_response_body: bool) -> None:
        self.reads_response_body = reads_response_body


_HEADS, _BODIES = _Callbacks(False), _Callbacks(True)


class Steered(ExchangeFacts, Protocol):
    """The exchange, as far as native plugins have a say in it."""

    def use_upstream(self, upstream: Upstream) -> None: ...

    def change_method(self, method: bytes) -> None: ...

    def answer_to(self, head: Asked) -> None:
        """A response comes, whoever made it, and the method that was sent is not the client's."""


class Seen:
    """The views that all native links of a request share."""

    def __init__(self, exchange: Steered, runtime: PluginRuntime) -> None:
        self.request = Request(exchange.head, exchange, exchange.route)
        self.exchange = exchange
        self.response: Response | None = None
        self.runtime = runtime


class NativeContext:
    """In the place of an HttpContext."""

    opened = True

    def __init__(self, steps: Steps, seen: Seen) -> None:
        self.vm = _BODIES if steps.body_filter else _HEADS
        self._steps = steps
        self._seen = seen
        self._waiting: Callable[[], None] | None = None
        # A step that wants the whole body, and those behind it.
        self._wanted: tuple[WholeBody, Iterator[RequestStep], RequestStep] | None = None
        self._head_is_all = False
        self.link: NativeLink

    def request_headers(self, head: bytes, eos: bool, silent: bool = False) -> bytes | Outcome:
        self._seen.request.raw = head
        self._head_is_all = eos
        return self._run(iter(self._steps.request)) or self._seen.request.raw

    def response_headers(self, head: bytes, eos: bool, silent: bool = False) -> bytes | Outcome:
        seen = self._seen
        response = seen.response
        if response is None:
            response = seen.response = Response(head, int(head[9:12]), seen.exchange.declared_length)
        else:
            response.raw, response.status = head, int(head[9:12])
        step: object = None
        try:
            for step in self._steps.header_filter:
                step(seen.request, response)
        except Exception as error:
            return self._failed(step, error)
        return response.raw

    def body(self, direction: Direction, data: bytes, eos: bool) -> Outcome:
        seen = self._seen
        step: object = None
        assert seen.response is not None
        try:
            for step in self._steps.body_filter:
                data = step(seen.request, seen.response, data, eos)
        except Exception as error:
            return self._failed(step, error)
        return Outcome(0, 0, data)

    def trailers(self, direction: Direction, lines: bytes) -> Outcome | None:
        return None

    def take_body(self, direction: Direction) -> bytes:
        return b""

    def take_trailers(self, direction: Direction) -> Outcome | None:
        return None

    def resume_head(self, map_type: MapType) -> bytes:
        return self._seen.request.raw

    def finish(self) -> None:
        self.stop_waiting()
        seen = self._seen
        if self._steps.log:
            run_logs(self._steps.log, seen.request, seen.response, seen.exchange, seen.runtime.native_failed)

    def stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def _run(self, steps: Iterator[RequestStep]) -> Outcome | None:
        step = None
        try:
            for step in steps:
                answer = step(self._seen.request)
                if answer is not None:
                    return self._answered(answer, steps, step)
        except Exception as error:
            return self._failed(step, error)
        request = self._seen.request
        own = request.own
        if own is not None and own.upstream is not None:
            self._seen.exchange.use_upstream(cast("Upstream", own.upstream))
        if not request.raw.startswith(request.asked.method + b" "):
            self.link.mixed.change_method(request.upstream_method.encode(), self._seen)
        return None

    def _answered(
        self, answer: Reply | WholeBody | Switch | Awaitable[Reply | None], steps: Iterator[RequestStep], step: RequestStep
    ) -> Outcome | None:
        if isinstance(answer, Reply):
            return _replied(answer)
        if isinstance(answer, Switch):
            self.link.mixed.switch(self.link, answer, self._seen)
            return _GOES_ON_ANEW
        if isinstance(answer, WholeBody):
            self._wanted = (answer, steps, step)
            stop = self.link.stops[Direction.REQUEST]
            outcome = self.look_at_body(stop)
            if outcome is not None:
                return None if outcome is _GOES_ON else outcome
            if stop is not None:
                self.link.mixed.let_body_come(stop.size)
            return Outcome(_PAUSE, 0)
        self._waiting = self._seen.runtime.wait(answer, partial(self._told, steps, step))
        return Outcome(_PAUSE, 0)

    def look_at_body(self, stop: Stop | None) -> Outcome | None:
        """What follows from as much of the wanted body as is held here; None when more has to come."""
        if self._wanted is None:
            return None
        whole, steps, step = self._wanted
        if (0 if stop is None else stop.size) > whole.limit or self._seen.exchange.head.fields.length > whole.limit:
            self._wanted = None
            return Outcome(0, Effect.LOCAL_REPLY, reply=_TOO_LARGE)
        if not (self._head_is_all or (stop is not None and (stop.eos or stop.trailers is not None))):
            return None
        self._wanted = None
        try:
            answer = whole.then(self._seen.request, b"" if stop is None else b"".join(stop.pieces))
        except Exception as error:
            return self._failed(step, error)
        outcome = self._run(steps) if answer is None else self._answered(answer, steps, step)
        return outcome or _GOES_ON

    @property
    def wants_body(self) -> bool:
        return self._wanted is not None

    @property
    def has_too_much_body(self) -> bool:
        """More has come than a plugin lets pass (`Request.limit_body`)."""
        own = self._seen.request.own
        return own is not None and own.max_body is not None and self._seen.exchange.request_bytes > own.max_body

    def body_passed(self, data: bytes) -> None:
        """Each piece that goes on, also one that was held."""
        own = self._seen.request.own
        kept = None if own is None else own.kept_body
        if kept is not None and kept.by in (None, self):
            kept.by = self
            kept.add(data)

    def _told(self, steps: Iterator[RequestStep], step: RequestStep, answer: Reply | None, error: BaseException | None) -> None:
        self._waiting = None
        if error is not None:
            outcome: Outcome | None = self._failed(step, error)
        elif answer is not None:
            outcome = _replied(answer)
        else:
            outcome = self._run(steps)
        if outcome is None:
            outcome = _GOES_ON
        if outcome.effects or not outcome.paused:
            self.link.apply(outcome)

    def _failed(self, step: object, error: BaseException) -> Outcome:
        self._seen.runtime.native_failed(step_name(step), error)
        status, body, fields, details = PLUGIN_FAILED
        return Outcome(0, Effect.LOCAL_REPLY, reply=SentReply(status, body, fields, details, None))


def _replied(reply: Reply) -> Outcome:
    fields = [(b"Server", b"waspgate")] if not any(name.lower() == "server" for name, _ in reply.headers) else []
    fields += [(name.encode(), value_bytes(value)) for name, value in reply.headers]
    return Outcome(0, Effect.LOCAL_REPLY, reply=SentReply(reply.status, reply.body, tuple(fields), "", None))


class NativeLink(Link):
    framed = False
    error_response = None

    def __init__(self, steps: Steps, seen: Seen) -> None:
        context = NativeContext(steps, seen)
        context.link = self
        self.slot = cast(LinkSlot, _NoSlot)
        # It has all of an HttpContext that a chain uses.
        self.context = cast(HttpContext, context)

    @property
    def native(self) -> NativeContext | None:
        return cast("NativeContext | None", self.context)

    @property
    def mixed(self) -> MixedChain:
        return cast("MixedChain", self.chain)

    @property
    def policy(self) -> FailurePolicy:
        return "fail_closed"


class Links(ChainOwner, PluginRuntime, Protocol):
    def links(self, bindings: tuple[PluginBinding, ...], info: StreamInfo) -> list[Link]:
        """Of Wasm plugins, in this order."""


def mixed_chain(runtime: Links, arrangement: Arrangement, sink: ChainSink, info: StreamInfo) -> MixedChain:
    """Without the Wasm plugins that are not to see this request. `info` is an exchange."""
    seen = Seen(cast("Steered", info), runtime)
    wasm = tuple(
        item
        for item in arrangement.request
        if isinstance(item, PluginBinding) and (item.passes is None or item.passes(seen.request))
    )
    link_of = dict(zip(wasm, runtime.links(wasm, info), strict=True))
    requests, responses = _links(arrangement.request, seen, link_of), _links(arrangement.response, seen, link_of)
    return MixedChain(requests, responses, sink, runtime)


def _links(items: tuple[PluginBinding | Steps, ...], seen: Seen, link_of: Mapping[PluginBinding, Link]) -> list[Link]:
    """Without Wasm plugins that have no link here."""
    found = (NativeLink(item, seen) if isinstance(item, Steps) else link_of.get(item) for item in items)
    return [link for link in found if link is not None]


class MixedChain(WasmChain):
    """`links` and `response_links` have the same Wasm links."""

    # Bytes that are held and are no reason to stop reading, as a plugin wants the whole body.
    _exempt = 0
    # To be called when a response comes: the method that was sent is not the client's.
    _answers: Callable[[], None] | None = None

    def __init__(self, links: list[Link], response_links: list[Link], sink: ChainSink, owner: ChainOwner) -> None:
        super().__init__(links, sink, owner)
        self._response_links = response_links
        self._take_in(response_links)

    def change_method(self, method: bytes, seen: Seen) -> None:
        """The upstream answers what it is asked, the client what it has asked."""
        seen.exchange.change_method(method)
        self._answers = partial(seen.exchange.answer_to, seen.request.asked)

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        answers, self._answers = self._answers, None
        if answers is not None:
            answers()
        super().response_head(head, framing, eos)

    def _body_through(self, link: Link, direction: Direction, data: bytes, eos: bool) -> bytes | None:
        native = link.native if isinstance(link, NativeLink) and not direction else None
        if native is not None and native.has_too_much_body:
            self._reply(reply_as_sent(_TOO_LARGE))
            return None
        passed = super()._body_through(link, direction, data, eos)
        if native is None:
            return passed
        if passed is not None:
            native.body_passed(passed)
        elif native.wants_body:
            self._exempt += len(data)
            self._count(Direction.REQUEST, -len(data))
            self._look(link, native)
        return passed

    def let_body_come(self, held: int) -> None:
        """So much of a body is held that is wanted as a whole from now on."""
        self._exempt += held
        self._count(Direction.REQUEST, -held)
        # The client may have been told to wait.
        self._sink.forward_request_body(b"", False)

    def _look(self, link: Link, native: NativeContext) -> None:
        outcome = native.look_at_body(link.stops[Direction.REQUEST])
        if outcome is not None:
            exempt, self._exempt = self._exempt, 0
            self._count(Direction.REQUEST, exempt)
            if outcome.effects or not outcome.paused:
                self.apply(link, outcome)

    def switch(self, link: Link, switch: Switch, seen: Seen) -> None:
        """Other native plugins come after this link. Wasm plugins keep their streams."""
        arrangement: Arrangement | None = switch.arrangement
        if arrangement is None:
            arrangement = switch.arrangement = arrange_rest(switch.bindings, switch.fresh)
        link_of = {wasm.slot.binding: wasm for wasm in self._links if not isinstance(wasm, NativeLink)}
        here = self._links.index(link) + 1
        self._links = [*self._links[:here], *_links(arrangement.request, seen, link_of)]
        self._response_links = _links(arrangement.response, seen, link_of)
        self._take_in(self._links)
        self._take_in(self._response_links)

    def _take_in(self, links: list[Link]) -> None:
        for link in links:
            link.chain = self
            if link.context is not None and link.context.vm.reads_response_body:
                self.reads_response_body = True

    def _trailers_through(self, link: Link, direction: Direction, lines: bytes) -> bytes | None:
        """What a native plugin has kept of the body goes on before them."""
        context = link.context
        if direction and isinstance(link, NativeLink) and context is not None and context.vm.reads_response_body:
            outcome = context.body(direction, b"", True)
            if outcome is None or self._ended(link, outcome):
                return None
            if outcome.data:
                self._body(direction, self._after(link, direction), outcome.data, False)
        passed = super()._trailers_through(link, direction, lines)
        if passed is None and isinstance(link, NativeLink) and link.native is not None and link.native.wants_body:
            self._look(link, link.native)
        return passed
