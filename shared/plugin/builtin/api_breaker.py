"""api-breaker: while an upstream answers with errors its requests are answered here, for longer each time.

The law: what breaks is known by host and path, over all workers. Each `failures` bad answers break for two seconds, then four,
eight and so on, up to `max_breaker_sec`; `successes` good ones end the count. So does time: nothing is known of a path whose
last bad answer is twice as long ago as it may break.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from shared.limits.rows import GONE, LimitsFailed, Step, prefix_of, row_key
from shared.plugin.fields import HeaderName, HeaderTemplate, Status, Template
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.plugin.template import compile_template
from shared.schema.common import MAX_INT, Array, Maybe, SomeUnique, Spec

if TYPE_CHECKING:
    from shared.plugin.host import Host

# Expiry, bad answers, good answers since the last bad one, when it broke last.
_ROW = Struct("<dQQd")
_NOT_YET = float("-inf")

Count = Annotated[int, Field(ge=1, le=MAX_INT)]


class UnhealthySpec(Spec):
    http_statuses: SomeUnique[Annotated[int, Field(ge=500, le=599)]] = (500,)
    failures: Count = 3


class HealthySpec(Spec):
    http_statuses: SomeUnique[Annotated[int, Field(ge=200, le=499)]] = (200,)
    successes: Count = 3


class HeaderSpec(Spec):
    key: HeaderName
    value: HeaderTemplate


class ApiBreakerConfig(Spec):
    break_response_code: Status
    break_response_body: Maybe[Template] = None
    break_response_headers: Maybe[Array[HeaderSpec]] = None
    max_breaker_sec: Annotated[int, Field(ge=3, le=MAX_INT)] = 300
    unhealthy: UnhealthySpec = UnhealthySpec()
    healthy: HealthySpec = HealthySpec()


class Breaker:
    """Times in seconds."""

    def __init__(self, failures: int, successes: int, longest: int) -> None:
        self._failures = failures
        self._successes = successes
        self._longest = longest

    def look(self, row: bytes | None, now: float) -> tuple[None, bool | None]:
        """Whether it is broken; None: nothing is known of it."""
        if row is None:
            return None, None
        expires, bad, _, broke = _ROW.unpack(row)
        if expires <= now:
            return None, None
        # More doublings than that last longer than any `longest`.
        return None, now < broke + min(2 ** min(bad // self._failures, 31), self._longest)

    def bad(self, row: bytes | None, now: float) -> tuple[bytes, None]:
        count, broke = 1, _NOT_YET
        if row is not None and _ROW.unpack(row)[0] > now:
            _, known, _, broke = _ROW.unpack(row)
            count = known + 1
        if count % self._failures == 0:
            broke = now
        return _ROW.pack(now + 2 * self._longest, count, 0, broke), None

    def good(self, row: bytes | None, now: float) -> tuple[bytes | None, None]:
        if row is None:
            return None, None
        expires, bad, good, broke = _ROW.unpack(row)
        if good + 1 >= self._successes or expires <= now:
            return GONE, None
        return _ROW.pack(expires, bad, good + 1, broke), None


class ApiBreaker(Plugin[ApiBreakerConfig]):
    name = "api-breaker"
    priority = 1005
    Config = ApiBreakerConfig

    def __init__(self, config: ApiBreakerConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._breaker = Breaker(config.unhealthy.failures, config.healthy.successes, config.max_breaker_sec)
        self._bad = frozenset(config.unhealthy.http_statuses)
        self._good = frozenset(config.healthy.http_statuses)
        self._body = compile_template(config.break_response_body or "")
        self._headers = [(one.key, compile_template(one.value)) for one in config.break_response_headers or ()]

    def attach(self, host: Host) -> None:
        self._host = host
        self._change = host.counters.change
        self._prefix = prefix_of(self.name, self.owner, self.config.model_dump_json())

    def access(self, request: Request) -> Reply | None:
        """Without counters nothing breaks."""
        key = row_key(self._prefix, f"{request.host} {request.path}")
        broken = self._changed(key, self._breaker.look)
        if not broken:
            request.context[self] = (key, broken is not None)
            return None
        headers = tuple((name, value.render(request)) for name, value in self._headers)
        return Reply(self.config.break_response_code, self._body.render(request), headers)

    def header_filter(self, request: Request, response: Response) -> None:
        """Other plugins may write another status."""
        seen = request.context.get(self)
        if seen is not None:
            request.context[self] = (*seen, response.status)

    def log(self, request: Request, response: Response | None) -> None:
        key, is_known, *statuses = request.context.get(self, (b"", False))
        exchange = request.exchange
        # A response that no upstream was asked for is no answer of it.
        if not statuses or exchange is None or exchange.upstream_address is None:
            return
        if statuses[0] in self._bad:
            self._changed(key, self._breaker.bad)
        elif is_known and statuses[0] in self._good:
            self._changed(key, self._breaker.good)

    def _changed(self, key: bytes, step: Step[Any]) -> Any:  # noqa: ANN401 - what the step answers
        try:
            return self._change(key, step)
        except LimitsFailed as error:
            self._host.failed(self.name, error)
            return None
