"""An exchange whose plugins are all native: a loop over what its route's program says, without a chain.

The law: the request goes on when every step of its phases has let it; a step that must wait leaves the exchange in STARTING,
with what arrives of the body held as for a slow upstream, or all of it when the step wants to look at it. A response,
whoever made it, passes the header filters once and its body the body filters, and the log steps run once, at the end. A step
that raises ends the exchange as a failed Wasm plugin does (503, or a cut when something has left), and another step's turn does
not come; only log steps fail alone.

Most plugins look at requests only: they have NativeExchange, whose response is that of a plain exchange.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.framing import has_body, length_line
from data_plane.exchange.info import DescribedExchange
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.exchange.sending import STARTING
from shared.plugin.body import WholeBody
from shared.plugin.program import Program, RequestStep, run_logs, step_name
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.plugin.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_plane.config.snapshot import Route, Upstream
    from data_plane.exchange.ports import ClientPort, Serving


class NativeExchange(DescribedExchange):
    """`request` is what plugins see, and what goes to the upstream."""

    __slots__ = ("_answered", "_logged", "_program", "_waiting", "_wanted", "request", "response")

    def __init__(self, serving: Serving, client: ClientPort, head: RequestHead, route: Route | None, program: Program) -> None:
        # Not DescribedExchange's: only the log phase asks when it began.
        Exchange.__init__(self, serving, client, head, route)
        self.request_bytes = 0
        self._program = program
        self._waiting: Callable[[], None] | None = None
        # A step that wants the whole body, and those behind it.
        self._wanted: tuple[WholeBody, Iterator[RequestStep], RequestStep] | None = None
        # It does not know its exchange: that would be a cycle, which only the collector ends.
        self.request = Request(head, client, route)
        if program.sees_responses:
            self._see_responses()

    def _see_responses(self) -> None:
        """`response` is None until one begins."""
        self.response: Response | None = None
        self.response_bytes = 0
        self.start_time_ns = self.client.unix_time_ns()
        self._answered = False
        self._logged = False

    # The request.

    def start(self, body: bytes, eos: bool) -> None:
        self.request_done = eos
        if body or not eos:
            self.request_bytes = len(body)
            self._outgoing = Outgoing(self.head.fields.framing, rewritten=False)
            self._outgoing.add(body, eos)
        self._run(iter(self._program.request))
        if not eos:
            self._regulate_request()
            self._answer_expectation(body)

    def request_body(self, data: bytes, eos: bool) -> None:
        self.request_bytes += len(data)
        if self._is_too_large():
            self.client_failed("body_too_large")
            return
        own = self.request.own
        # What comes earlier is kept when it goes on.
        if own is not None and own.kept_body is not None and self.state != STARTING:
            own.kept_body.add(data)
        super().request_body(data, eos)
        if self._wanted is not None:
            self._look_at_body()

    def request_trailers(self, lines: bytes) -> None:
        super().request_trailers(lines)
        if self._wanted is not None:
            self._look_at_body()

    def _is_too_large(self) -> bool:
        own = self.request.own
        return own is not None and own.max_body is not None and self.request_bytes > own.max_body

    def _run(self, steps: Iterator[RequestStep]) -> None:
        request = self.request
        step = None
        try:
            for step in steps:
                answer = step(request)
                if answer is not None:
                    self._answer(answer, steps, step)
                    return
        except Exception as error:
            self._failed(step, error)
            return
        own = request.own
        if own is not None:
            if self._is_too_large():
                self._fail("body_too_large")
                return
            if own.kept_body is not None and self._outgoing is not None:
                own.kept_body.add(self._outgoing.held())
            if own.upstream is not None:
                self.use_upstream(cast("Upstream", own.upstream))
        head = request.raw
        if head is not self.head.open and not head.startswith(self.head.method + b" "):
            if not self._program.changes_method:
                self._failed(step, ValueError("a plugin that changes the method must say so (changes_method)"))
                return
            self._change_method(request.upstream_method.encode())
        self._send(head)

    def _answer(
        self, answer: Reply | WholeBody | Switch | Awaitable[Reply | None], steps: Iterator[RequestStep], step: RequestStep
    ) -> None:
        if isinstance(answer, Reply):
            self._begin_reply(answer.open_head(), answer.body)
        elif isinstance(answer, WholeBody):
            self._wanted = (answer, steps, step)
            self._look_at_body()
            # The client may have been told to wait while there was nobody to read.
            self._regulate_request()
        elif isinstance(answer, Switch):
            assert answer.program is not None
            self._switch(answer.program)
        else:
            self._waiting = self.serving.runtime.wait(answer, partial(self._told, steps, step))

    def _switch(self, program: Program) -> None:
        """What is left is another program's."""
        self._program = program
        self._run(iter(program.request))

    def _told(self, steps: Iterator[RequestStep], step: RequestStep, answer: Reply | None, error: BaseException | None) -> None:
        """What was waited for has come."""
        self._waiting = None
        if self.state != STARTING:
            return
        if error is not None:
            self._failed(step, error)
        elif answer is not None:
            self._begin_reply(answer.open_head(), answer.body)
        else:
            self._run(steps)

    def _look_at_body(self) -> None:
        """More of the body that a step wants is here, or all of it."""
        wanted = self._wanted
        if wanted is None or self.state != STARTING:
            return
        whole, steps, step = wanted
        if max(self.request_bytes, self.head.fields.length) > whole.limit:
            self._wanted = None
            self._fail("body_too_large")
        elif self.request_done:
            self._wanted = None
            body = b"" if self._outgoing is None else self._outgoing.held()
            try:
                answer = whole.then(self.request, body)
            except Exception as error:
                self._failed(step, error)
                return
            if answer is None:
                self._run(steps)
            else:
                self._answer(answer, steps, step)

    def _request_backlog(self) -> int:
        """A body that is wanted as a whole has to come, up to the limit that was named with it."""
        return 0 if self._wanted is None or self._outgoing is None else -self._outgoing.size

    def _change_method(self, method: bytes) -> None:
        """The upstream answers what it is asked, the client what it has asked."""
        head = self.head
        self.head = RequestHead(method, head.path, head.open, head.fields)

    def _failed(self, step: object, error: BaseException) -> None:
        self.serving.runtime.native_failed(step_name(step), error)
        if self._on_wire:
            self._cut()
        else:
            self._fail("plugin_failed")

    def held(self) -> object:
        return (self.state, self.request_bytes) if self._waiting is not None else None

    # The end.

    def _finish(self, data: bytes, keep_alive: bool) -> None:
        super()._finish(data, keep_alive)
        self._stop_waiting()

    def _end(self) -> None:
        super()._end()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()


class NativeFilterExchange(NativeExchange):
    """For a program that sees responses."""

    __slots__ = ()

    def _whole_response(self, head: bytes, status: int, length: int, framing: bytes, body: bytes) -> None:
        self._begin_response(head, status, length, framing, body, True)

    def _begin_response(self, head: bytes, status: int, length: int, framing: bytes, data: bytes, eos: bool) -> None:
        if self._answered:
            # The reply to a filter's failure, and what `_whole_response` leaves to this one.
            super()._begin_response(head, status, length, framing, data, eos)
            return
        self._answered = True
        sent, self.head = self.head, cast("RequestHead", self.request.asked)
        if sent.method == b"HEAD" != self.head.method:
            # A plugin has made it a HEAD, so that the upstream's length is that of no body.
            length, framing = 0, length_line(0)
        response = self.response = Response(head, status, length)
        step: object = None
        try:
            for step in self._program.header_filter:
                step(self.request, response)
            if self._program.body_filter:
                data = self._filtered(data, eos)
                if self._program.changes_body:
                    length, framing = self._new_length(len(data), eos)
        except Exception as error:
            self._failed(step, error)
            return
        self.response_bytes = len(data)
        if eos and self.head.method != b"HEAD":
            super()._whole_response(response.raw, response.status, length, framing, data)
            self._log()
        else:
            super()._begin_response(response.raw, response.status, length, framing, data, eos)

    def _new_length(self, size: int, eos: bool) -> tuple[int, bytes]:
        """What was declared promises nothing about what is sent."""
        assert self.response is not None
        if not has_body(self.head.method, self.response.status):
            return UNTIL_CLOSE, b""
        return (size, length_line(size)) if eos else (CHUNKED, b"")

    def _filtered(self, data: bytes, eos: bool) -> bytes:
        response = self.response
        assert response is not None
        if has_body(self.head.method, response.status):
            for step in self._program.body_filter:
                data = step(self.request, response, data, eos)
        return data

    def _continue_response(self, data: bytes, eos: bool) -> None:
        if self._program.body_filter:
            try:
                data = self._filtered(data, eos)
            except Exception as error:
                self._failed(self._program.body_filter[0], error)
                return
        # Only to a HEAD that a plugin has made another method does an upstream send a body that the client must not get.
        if self.head.method == b"HEAD":
            data = b""
        self.response_bytes += len(data)
        super()._continue_response(data, eos)

    def _stop_waiting(self) -> None:
        super()._stop_waiting()
        self._log()

    def _log(self) -> None:
        if self._logged:
            return
        self._logged = True
        if self._program.log:
            run_logs(self._program.log, self.request, self.response, self, self.serving.runtime.native_failed)


class MergingExchange(NativeFilterExchange):
    """For a program that sees no responses, but may switch to one that does."""

    __slots__ = ("_sees",)

    def __init__(self, serving: Serving, client: ClientPort, head: RequestHead, route: Route | None, program: Program) -> None:
        super().__init__(serving, client, head, route, program)
        self._sees = False

    def _switch(self, program: Program) -> None:
        if program.sees_responses:
            self._see_responses()
            self._sees = True
        super()._switch(program)

    def _whole_response(self, head: bytes, status: int, length: int, framing: bytes, body: bytes) -> None:
        respond = NativeFilterExchange._whole_response if self._sees else Exchange._whole_response
        respond(self, head, status, length, framing, body)

    def _begin_response(self, head: bytes, status: int, length: int, framing: bytes, data: bytes, eos: bool) -> None:
        respond = NativeFilterExchange._begin_response if self._sees else Exchange._begin_response
        respond(self, head, status, length, framing, data, eos)

    def _continue_response(self, data: bytes, eos: bool) -> None:
        respond = NativeFilterExchange._continue_response if self._sees else Exchange._continue_response
        respond(self, data, eos)

    def _log(self) -> None:
        if self._sees:
            super()._log()


def native_exchange(
    serving: Serving, client: ClientPort, head: RequestHead, route: Route | None, program: Program
) -> NativeExchange:
    if program.sees_responses:
        return NativeFilterExchange(serving, client, head, route, program)
    kind = MergingExchange if program.switches else NativeExchange
    return kind(serving, client, head, route, program)
