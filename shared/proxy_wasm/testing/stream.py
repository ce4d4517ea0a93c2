"""One request through one plugin, as the gateway would take it there: what goes on, what waits, what comes back.

The law: a message goes through in order (head, pieces of the body, the last of them or the head itself with the end). What a
plugin pauses waits here (a head and what follows it) or in the plugin (a body) until it lets go, sends a response of its own,
or closes the stream. The end of the response is the end of the stream: on_done, on_log and on_delete, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.proxy_wasm.abi import Direction, Effect, MapType
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome, SentReply
from shared.proxy_wasm.pairs import Pairs
from shared.proxy_wasm.replies import wire_reply
from shared.proxy_wasm.testing.facts import Facts
from shared.proxy_wasm.testing.messages import (
    Request,
    Response,
    as_text,
    framing_line,
    pieces_of,
    read_request,
    read_response,
    response_head,
)
from shared.proxy_wasm.vm import HttpContext, PluginContext

Upstream = Callable[[Request], Response]

_CONTINUE = (Effect.CONTINUE_REQUEST, Effect.CONTINUE_RESPONSE)
_HEADERS = (MapType.REQUEST_HEADERS, MapType.RESPONSE_HEADERS)
_NO_ROOM = ((431, 413), (502, 500))
_FAILED, _INCOMPLETE = 503, 500


@dataclass(slots=True)
class LocalReply:
    """What the plugin sent with proxy_send_local_response."""

    status: int
    body: bytes
    details: str
    grpc_status: int | None


@dataclass(slots=True)
class _Way:
    """One direction. `head` (with its framing line) and `pieces` wait behind a pause in the headers."""

    head: tuple[bytes, bytes] | None = None
    pieces: list[bytes] = field(default_factory=list)
    body_held: bool = False
    eos: bool = False
    over: bool = False

    def clear(self) -> None:
        self.head, self.body_held = None, False
        self.pieces.clear()


class Missing(AssertionError):
    """A test looked at a message that does not exist; the text says why it does not."""


class Stream:
    """What became of a request: `forwarded` is what the upstream got, `response` what the client got. Both raise Missing when
    there is none (`was_forwarded` and `has_response` ask). `local_reply` is what the plugin sent instead, or None. `closed`
    is true when the plugin reset the stream, `failure` what the VM died of meanwhile (the client then gets 503).
    """

    def __init__(self, context: PluginContext, facts: Facts, upstream: Upstream, note: Callable[[str], None]) -> None:
        self.facts = facts
        self.properties: dict[bytes, bytes] = {}
        self._forwarded: Request | None = None
        self._response: Response | None = None
        self.local_reply: LocalReply | None = None
        self.closed = False
        self.ended = False
        self.failure: VmFailed | None = None
        self._upstream = upstream
        self._note = note
        self._ways = (_Way(), _Way())
        self._response_begun = self._bypassed = False
        self._last_head = b""
        self._context: HttpContext = context.open(self)

    @property
    def was_forwarded(self) -> bool:
        return self._forwarded is not None

    @property
    def forwarded(self) -> Request:
        if self._forwarded is None:
            raise Missing(f"the upstream got no request: {self._state}")
        return self._forwarded

    @property
    def has_response(self) -> bool:
        return self._response is not None

    @property
    def response(self) -> Response:
        if self._response is None:
            raise Missing(f"the client got no response: {self._state}")
        return self._response

    @property
    def _state(self) -> str:
        if self.failure is not None:
            return f"the plugin failed, {self.failure}"
        if self.paused:
            return f"the {self.paused} waits in the plugin"
        if self.closed:
            return "the plugin closed the stream"
        return (
            "the plugin sent a local response"
            if self.local_reply is not None
            else "it has ended"
            if self.ended
            else "it goes on"
        )

    @property
    def context_id(self) -> int:
        return self._context.id

    @property
    def paused(self) -> str:
        """`request` or `response`: what waits in the plugin; empty when nothing does."""
        for way, name in zip(self._ways, ("request", "response"), strict=True):
            if not way.over and (way.head is not None or way.body_held):
                return name
        return ""

    def plugin_properties(self) -> dict[bytes, bytes]:
        """For the VM (StreamOwner): what proxy_set_property has set, by path."""
        return self.properties

    # --- what the test does

    def begin(self, head: bytes, pieces: tuple[bytes, ...]) -> None:
        self.facts.request_bytes = sum(map(len, pieces))
        self._message(Direction.REQUEST, head, pieces)

    def abandon(self) -> None:
        """The client has left. What a request in the plugin's hands had asked of others, nobody waits for any more."""
        if self.paused:
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

    def _message(self, direction: Direction, head: bytes, pieces: tuple[bytes, ...]) -> None:
        way = self._ways[direction]
        self._head(direction, head, framing_line(pieces), not pieces)
        for k, piece in enumerate(pieces):
            if way.over or self.ended:
                return
            self._body(direction, piece, k == len(pieces) - 1)

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
            if self._stops(answer, _NO_ROOM[direction][0]):
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
        if self._stops(outcome, _NO_ROOM[direction][1]):
            return
        way.body_held, way.eos = outcome.paused, eos
        self._resume_told(outcome)
        if not outcome.paused and not way.over:
            self._forward_body(direction, data if outcome.data is None else outcome.data, eos)

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
            elif way.body_held:
                data = self._context.take_body(direction)
                way.body_held = False
                self._forward_body(direction, data, way.eos)
        except VmFailed as failure:
            self._failed(failure)

    def _resume_head(self, direction: Direction, way: _Way) -> None:
        assert way.head is not None
        answer = self._context.resume_head(_HEADERS[direction])
        if isinstance(answer, Outcome):
            if self._stops(answer):
                return
            answer = answer.data
        head, pieces, eos = answer or way.head[0], list(way.pieces), way.eos
        way.clear()
        self._forward_head(direction, head, eos and not pieces)
        for k, piece in enumerate(pieces):
            if way.over or self.ended:
                return
            self._body(direction, piece, eos and k == len(pieces) - 1)

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
            self._message(Direction.RESPONSE, response_head(answer.status, answer.headers), pieces)

    # --- ends

    def _stops(self, outcome: Outcome, no_room: int = _FAILED) -> bool:
        """The outcome ends the stream's way here: a reset, a local reply, or what the plugin cannot hold or send."""
        effects = outcome.effects
        if outcome.no_room:
            self._reply(no_room, b"", ())
        elif effects & Effect.CLOSE:
            self.closed = True
            self.abandon()
        elif effects & Effect.LOCAL_REPLY and outcome.reply is not None:
            self._reply_sent(outcome.reply)
        elif effects & Effect.BAD_HEAD:
            self._reply(_INCOMPLETE, b"", ())
        else:
            return False
        return True

    def _reply_sent(self, sent: SentReply) -> None:
        self.local_reply = LocalReply(sent.status, sent.body, sent.details, sent.grpc_status)
        self._note("the plugin sent a local response")
        self._reply(*wire_reply(sent))

    def _reply(self, status: int, body: bytes, fields: Pairs) -> None:
        """Through the response callbacks, or past them when those had begun; too late when something of the response left."""
        request, response = self._ways
        if response.over:
            return
        request.over = True
        request.clear()
        response.clear()
        head = response_head(status, [(as_text(name), as_text(value)) for name, value in fields])
        if not self._response_begun:
            self._message(Direction.RESPONSE, head, pieces_of(body, ()))
        elif self._has_left():
            self.closed = True
            self.abandon()
        else:
            self._pass_by(head, body)

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
        self._reply(_FAILED, b"", ())

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

    def __repr__(self) -> str:
        status = self._response.status if self._response is not None else "no response"
        return f"<Stream {self.context_id}: {status}, {self._state}>"
