"""The native plugins of a route, taken apart into what each phase calls.

The law: a program is made when the configuration is compiled, and says all: in which order what is called is never asked of
plugins again. A step is a bound method of a plugin, or of a `Gate` before one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from shared.plugin.body import Then, WholeBody
from shared.plugin.facts import ExchangeFacts
from shared.plugin.plugin import REQUEST_PHASES, Answer, AnyPlugin, Phase
from shared.plugin.reply import Reply, json_body
from shared.plugin.request import Request, Response
from shared.plugin.switch import Switch

RequestStep = Callable[[Request], Answer | Switch]
HeaderStep = Callable[[Request, Response], None]
BodyStep = Callable[[Request, Response, bytes, bool], bytes]
LogStep = Callable[[Request, Response | None], None]
Filter = Callable[[Request], bool]
ErrorResponse = str | dict[str, object]


@dataclass(frozen=True, slots=True)
class Program:
    request: tuple[RequestStep, ...] = ()
    header_filter: tuple[HeaderStep, ...] = ()
    body_filter: tuple[BodyStep, ...] = ()
    log: tuple[LogStep, ...] = ()
    changes_method: bool = False
    changes_body: bool = False
    # Whether a step may answer a Switch.
    switches: bool = False

    @property
    def sees_responses(self) -> bool:
        """A response to another method than the client's is no plain one either."""
        return bool(self.header_filter or self.body_filter or self.log) or self.changes_method


class Gate:
    """What `_meta` puts before a plugin: `filter` decides once for a request whether the plugin runs, `error_response` is the
    body of the plugin's own errors."""

    def __init__(self, plugin: AnyPlugin, passes: Filter | None, error_response: ErrorResponse | None) -> None:
        self.name = plugin.name
        self._plugin = plugin
        self._passes = passes
        self._error_response = error_response
        self._body = error_response.encode() if isinstance(error_response, str) else json_body(error_response)

    def _is_open(self, request: Request) -> bool:
        if self._passes is None:
            return True
        context = request.context
        is_open = context.get(self)
        if is_open is None:
            is_open = context[self] = self._passes(request)
        return bool(is_open)

    def rewrite(self, request: Request) -> Answer:
        return self._told(self._plugin.rewrite(request)) if self._is_open(request) else None

    def access(self, request: Request) -> Answer:
        return self._told(self._plugin.access(request)) if self._is_open(request) else None

    def before_proxy(self, request: Request) -> Answer:
        return self._told(self._plugin.before_proxy(request)) if self._is_open(request) else None

    def header_filter(self, request: Request, response: Response) -> None:
        if self._is_open(request):
            self._plugin.header_filter(request, response)

    def body_filter(self, request: Request, response: Response, data: bytes, eos: bool) -> bytes:
        return self._plugin.body_filter(request, response, data, eos) if self._is_open(request) else data

    def log(self, request: Request, response: Response | None) -> None:
        if self._is_open(request):
            self._plugin.log(request, response)

    def _told(self, answer: Answer) -> Answer:
        if answer is None or self._error_response is None:
            return answer
        if isinstance(answer, Reply):
            return self._replaced(answer)
        return WholeBody(answer.limit, self._told_of(answer)) if isinstance(answer, WholeBody) else self._later(answer)

    def _told_of(self, wanted: WholeBody) -> Then:
        def then(request: Request, body: bytes) -> Reply | Awaitable[Reply | None] | None:
            answer = self._told(wanted.then(request, body))
            assert not isinstance(answer, WholeBody)
            return answer

        return then

    async def _later(self, answer: Awaitable[Reply | None]) -> Reply | None:
        reply = await answer
        return None if reply is None else self._replaced(reply)

    def _replaced(self, reply: Reply) -> Reply:
        if reply.status < 400:
            return reply
        kind = "text/plain; charset=utf-8" if isinstance(self._error_response, str) else "application/json"
        headers = [field for field in reply.headers if field[0].lower() != "content-type"]
        return Reply(reply.status, self._body, (("Content-Type", kind), *headers))


@dataclass(frozen=True, slots=True)
class Bound:
    """A plugin as it stands in a program."""

    plugin: AnyPlugin
    gate: Gate | None
    phases: frozenset[Phase]

    @classmethod
    def of(cls, plugin: AnyPlugin, passes: Filter | None = None, error_response: ErrorResponse | None = None) -> Bound:
        gated = passes is not None or error_response is not None
        return cls(plugin, Gate(plugin, passes, error_response) if gated else None, plugin.phases())

    @property
    def steps(self) -> AnyPlugin | Gate:
        return self.gate or self.plugin


def compile_program(bound: Sequence[Bound]) -> Program:
    """`bound` in the order in which they run inside a phase."""
    return Program(
        request=tuple(step for phase in REQUEST_PHASES for step in request_steps(bound, phase)),
        header_filter=tuple(one.steps.header_filter for one in bound if "header_filter" in one.phases),
        body_filter=tuple(one.steps.body_filter for one in bound if "body_filter" in one.phases),
        log=tuple(one.steps.log for one in bound if "log" in one.phases),
        changes_method=any(one.plugin.changes_method for one in bound),
        changes_body=any("body_filter" in one.phases and one.plugin.changes_body for one in bound),
        switches=any(one.plugin.switches for one in bound),
    )


def compile_rest(bound: Sequence[Bound], rewriting: Sequence[Bound]) -> Program:
    """What is left after the rewrite phase, but for those of them that still have theirs."""
    later = (step for phase in REQUEST_PHASES[1:] for step in request_steps(bound, phase))
    return replace(compile_program(bound), request=(*request_steps(rewriting, "rewrite"), *later), switches=False)


def request_steps(bound: Sequence[Bound], phase: Phase) -> list[RequestStep]:
    steps: list[RequestStep] = [getattr(one.steps, phase) for one in bound if phase in one.phases]
    return steps


def run_logs(
    steps: tuple[LogStep, ...],
    request: Request,
    response: Response | None,
    exchange: ExchangeFacts,
    failed: Callable[[str, BaseException], None],
) -> None:
    """The log phase: a step that raises stops no other."""
    with request.logged(exchange):
        for step in steps:
            try:
                step(request, response)
            except Exception as error:
                failed(step_name(step), error)


def step_name(step: object) -> str:
    """The plugin of a step, for a log."""
    return str(getattr(getattr(step, "__self__", step), "name", step))
