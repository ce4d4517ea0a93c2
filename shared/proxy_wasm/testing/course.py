"""The way of one request and its response through one plugin, as the gateway would take them there.

The law: a message goes through in order (head, pieces of the body, trailers; the last of them ends it). What a plugin pauses
waits here (a head and what follows it, trailers) or in the plugin (a body) until it lets go, sends a response of its own, or
closes the stream. The end of the response is the end of the stream: on_done, on_log and on_delete, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.proxy_wasm.abi import Direction, Effect, MapType
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome, SentReply
from shared.proxy_wasm.replies import BODY_TOO_LARGE, HEAD_INCOMPLETE, HEAD_TOO_LARGE, PLUGIN_FAILED, WireReply, wire_reply
from shared.proxy_wasm.testing.facts import Facts
from shared.proxy_wasm.testing.messages import (
    Request,
    Response,
    as_text,
    field_lines,
    framing_line,
    pieces_of,
    read_fields,
    read_request,
    read_response,
    response_head,
)
from shared.proxy_wasm.vm import HttpContext, PluginContext

Upstream = Callable[[Request], Response]

_CONTINUE = (Effect.CONTINUE_REQUEST, Effect.CONTINUE_RESPONSE)
_HEADERS = (MapType.REQUEST_HEADERS, MapType.RESPONSE_HEADERS)


@dataclass(slots=True)
class LocalReply:
    """What the plugin sent with proxy_send_local_response."""

    status: int
    body: bytes
    details: str
    grpc_status: int | None


@dataclass(slots=True)
class Way:
    """One direction. `head` (with its framing line), `pieces` and `trailers` wait here; a body that is held is the plugin's."""

    head: tuple[bytes, bytes] | None = None
    pieces: list[bytes] = field(default_factory=list)
    trailers: bytes | None = None
    body_held: bool = False
    eos: bool = False
    over: bool = False

    @property
    def waits(self) -> bool:
        return not self.over and (self.head is not None or self.body_held or self.trailers is not None)

    def clear(self) -> None:
        self.head, self.trailers, self.body_held = None, None, False
        self.pieces.clear()


class Course:
    """Base of Stream, which shows what came of it."""

    def __init__(self, context: PluginContext, facts: Facts, upstream: Upstream, note: Callable[[str], None]) -> None:
        self.facts = facts
        self.properties: dict[bytes, bytes] = {}
        self.local_reply: LocalReply | None = None
        self.closed = False
        self.ended = False
        self.failure: VmFailed | None = None
        self._forwarded: Request | None = None
        self._response: Response | None = None
        self._upstream = upstream
        self._note = note
        self._ways = (Way(), Way())
        self._response_begun = self._bypassed = False
        self._last_head = b""
        self._context: HttpContext = context.open(self)

    def plugin_properties(self) -> dict[bytes, bytes]:
        """For the VM (StreamOwner): what proxy_set_property has set, by path."""
        return self.properties

    def begin(self, head: bytes, pieces: tuple[bytes, ...], trailers: bytes) -> None:
        self.facts.request_bytes = sum(map(len, pieces))
        self._message(Direction.REQUEST, head, pieces, trailers)

    def abandon(self) -> None:
        """The client has left. What a request in the plugin's hands had asked of others, nobody waits for any more."""
        if any(way.waits for way in self._ways):
            self._context.vm.calls.abandon(self._context)
        for way in self._ways:
            way.over = True
            way.clear()
        self._end()

    def apply(self, outcome: Outcome) -> None:
        """Another context's callback acted on this stream."""
        if not self.ended and not self._stops(outcome):
            self._resume_told(outcome)

    # --- a message through the plugin

    def _message(self, direction: Direction, head: bytes, pieces: tuple[bytes, ...], trailers: bytes = b"") -> None:
        framing = framing_line(direction, pieces, trailers)
        self._head(direction, head, framing, not pieces and not trailers)
        self._rest(direction, pieces, trailers or None, eos=True)

    def _rest(self, direction: Direction, pieces: Sequence[bytes], trailers: bytes | None, *, eos: bool) -> None:
        """What follows a head, `eos` when that is all of it."""
        way = self._ways[direction]
        for k, piece in enumerate(pieces):
            if way.over or self.ended:
                return
            self._body(direction, piece, eos and trailers is None and k == len(pieces) - 1)
        if trailers is not None and not way.over and not self.ended:
            self._trailers(direction, trailers)

    def _head(self, direction: Direction, head: bytes, framing: bytes, eos: bool) -> None:
        context, way = self._context, self._ways[direction]
        way.eos = eos
        if direction:
            self._response_begun = True
        try:
            answer = (context.response_headers if direction else context.request_headers)(head + framing, eos)
        except VmFailed as failure:
            self._failed(failure)
            return
        if isinstance(answer, Outcome):
            if self._stops(answer, HEAD_TOO_LARGE[direction]):
                return
            if answer.paused:
                way.head = head, framing
            self._resume_told(answer)
            if answer.paused or way.over:
                return
            answer = answer.data
        self._forward_head(direction, answer or head, eos)

    def _body(self, direction: Direction, data: bytes, eos: bool) -> None:
        context, way = self._context, self._ways[direction]
        if way.head is not None:
            way.pieces.append(data)
            way.eos = eos
            return
        if not (context.vm.reads_response_body if direction else context.vm.reads_request_body):
            self._forward_body(direction, data, eos)
            return
        try:
            outcome = context.body(direction, data, eos)
        except VmFailed as failure:
            self._failed(failure)
            return
        if outcome is None:
            way.body_held = False
            self._forward_body(direction, data, eos)
            return
        if self._stops(outcome, BODY_TOO_LARGE[direction]):
            return
        way.body_held, way.eos = outcome.paused, eos
        self._resume_told(outcome)
        if outcome.paused or way.over:
            return
        passed = data if outcome.data is None else outcome.data
        if outcome.effects & Effect.TRAILERS:
            self._last_piece(direction, passed, None)
        else:
            self._forward_body(direction, passed, eos)

    def _trailers(self, direction: Direction, lines: bytes) -> None:
        way = self._ways[direction]
        if way.head is not None:
            way.trailers = lines
            return
        try:
            outcome = self._context.trailers(direction, lines)
            if outcome is not None:
                if self._stops(outcome, HEAD_TOO_LARGE[direction]):
                    return
                if outcome.paused:
                    way.trailers = lines
                self._resume_told(outcome)
                if outcome.paused or way.over:
                    return
                lines = lines if outcome.data is None else outcome.data
            if way.body_held:
                way.body_held = False
                self._last_piece(direction, self._context.take_body(direction), lines)
            else:
                self._forward_trailers(direction, lines)
        except VmFailed as failure:
            self._failed(failure)

    def _last_piece(self, direction: Direction, data: bytes, lines: bytes | None) -> None:
        """The end of a message: data, and trailers, if some have come or the plugin has made some."""
        outcome = self._context.take_trailers(direction)
        if outcome is not None and outcome.data is not None:
            lines = outcome.data
        if data or lines is None:
            self._forward_body(direction, data, lines is None)
        if lines is not None:
            self._forward_trailers(direction, lines)

    def _resume_told(self, outcome: Outcome) -> None:
        for direction in (Direction.REQUEST, Direction.RESPONSE):
            if outcome.effects & _CONTINUE[direction]:
                self._resume(direction)

    def _resume(self, direction: Direction) -> None:
        way = self._ways[direction]
        if way.over or self.ended:
            return
        try:
            if way.head is not None:
                self._resume_head(direction, way)
            elif way.waits:
                data = self._context.take_body(direction) if way.body_held else b""
                trailers = way.trailers
                way.clear()
                if way.eos or trailers is not None:
                    self._last_piece(direction, data, trailers)
                else:
                    self._forward_body(direction, data, False)
        except VmFailed as failure:
            self._failed(failure)

    def _resume_head(self, direction: Direction, way: Way) -> None:
        assert way.head is not None
        answer = self._context.resume_head(_HEADERS[direction])
        if isinstance(answer, Outcome):
            if self._stops(answer):
                return
            answer = answer.data
        head, pieces, trailers, eos = answer or way.head[0], list(way.pieces), way.trailers, way.eos
        way.clear()
        self._forward_head(direction, head, eos and not pieces)
        self._rest(direction, pieces, trailers, eos=eos)

    # --- what goes on

    def _forward_head(self, direction: Direction, head: bytes, eos: bool) -> None:
        if direction:
            self._last_head = head
            self._response = read_response(head)
        else:
            self._forwarded = read_request(head)
        if eos:
            self._complete(direction)

    def _forward_body(self, direction: Direction, data: bytes, eos: bool) -> None:
        message = self._response if direction else self._forwarded
        if message is not None:
            message.body += data
        if isinstance(message, Response) and data:
            message.chunks += (data,)
            self.facts.response_bytes += len(data)
        if eos:
            self._complete(direction)

    def _forward_trailers(self, direction: Direction, lines: bytes) -> None:
        message = self._response if direction else self._forwarded
        if message is not None:
            message.trailers = read_fields(lines)
        self._complete(direction)

    def _complete(self, direction: Direction) -> None:
        self._ways[direction].over = True
        if direction and self._response is not None:
            self._response.complete = True
            self._end()
        elif self._forwarded is not None and not self._response_begun:
            self._forwarded.complete = True
            self._note("the upstream got the request")
            answer = self._upstream(self._forwarded)
            pieces = answer.chunks or pieces_of(answer.body, ())
            head = response_head(answer.status, answer.headers)
            self._message(Direction.RESPONSE, head, pieces, field_lines(answer.trailers))

    # --- ends

    def _stops(self, outcome: Outcome, no_room: WireReply = PLUGIN_FAILED) -> bool:
        """The outcome ends the stream's way here: a reset, a local reply, or what the plugin cannot hold or send."""
        effects = outcome.effects
        if outcome.no_room:
            self._reply(no_room)
        elif effects & Effect.CLOSE:
            self.closed = True
            self.abandon()
        elif effects & Effect.LOCAL_REPLY and outcome.reply is not None:
            self._reply_sent(outcome.reply)
        elif effects & Effect.BAD_HEAD:
            self._reply(HEAD_INCOMPLETE)
        else:
            return False
        return True

    def _reply_sent(self, sent: SentReply) -> None:
        self.local_reply = LocalReply(sent.status, sent.body, sent.details, sent.grpc_status)
        self._note("the plugin sent a local response")
        self._reply(wire_reply(sent))

    def _reply(self, reply: WireReply) -> None:
        """Through the response callbacks, or past them when those had begun; too late when something of the response left."""
        request, response = self._ways
        if response.over:
            return
        request.over = True
        request.clear()
        response.clear()
        head = response_head(reply.status, [(as_text(name), as_text(value)) for name, value in reply.fields])
        if not self._response_begun:
            self._message(Direction.RESPONSE, head, pieces_of(reply.body, ()))
        elif self._has_left():
            self.closed = True
            self.abandon()
        else:
            self._pass_by(head, reply.body)

    def _has_left(self) -> bool:
        """A plugin that reads the body keeps the head from leaving until its first piece goes on."""
        return self._response is not None and (not self._context.vm.reads_response_body or bool(self._response.body))

    def _pass_by(self, head: bytes, body: bytes) -> None:
        self._bypassed = True
        self._response = None
        self._forward_head(Direction.RESPONSE, head, not body)
        if body:
            self._forward_body(Direction.RESPONSE, body, True)

    def _failed(self, failure: VmFailed) -> None:
        """As under fail_closed."""
        self.failure = failure
        self._note(f"the plugin failed: {failure}")
        self._response_begun = True
        self._reply(PLUGIN_FAILED)

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        context = self._context
        try:
            if self._bypassed and context.opened and context.vm.failed is None and context.vm.logs_streams:
                # on_log reads the response that left.
                context.response_headers(self._last_head, True, silent=True)
            context.finish()
        except VmFailed as failure:
            self.failure = failure
