"""fault-injection: answers that are wrong or late, on purpose.

The law: the delay comes first, then the abort; only a request that is delayed waits.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from shared.plugin.builtin.sampling import Sample, check_vars
from shared.plugin.fields import HeaderName, HeaderTemplate, Percentage, Status, Template, at_least_one_of
from shared.plugin.plugin import Answer, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.template import compile_template
from shared.schema.common import MAX_SECONDS, Maybe, Spec

Rules = Annotated[list[Any], AfterValidator(check_vars)]


class AbortSpec(Spec):
    http_status: Status
    body: Maybe[Template] = None
    headers: Maybe[Annotated[dict[HeaderName, HeaderTemplate], Field(min_length=1)]] = None
    percentage: Maybe[Percentage] = None
    vars: Maybe[Rules] = None


class DelaySpec(Spec):
    """Seconds."""

    duration: Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
    percentage: Maybe[Percentage] = None
    vars: Maybe[Rules] = None


class FaultInjectionConfig(Spec):
    abort: Maybe[AbortSpec] = None
    delay: Maybe[DelaySpec] = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        at_least_one_of(self, "abort", "delay")
        return self


class FaultInjection(Plugin[FaultInjectionConfig]):
    name = "fault-injection"
    priority = 11000
    Config = FaultInjectionConfig
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, config: FaultInjectionConfig, metadata: object = None) -> None:
        super().__init__(config)
        abort, delay = config.abort, config.delay
        self._aborted = None if abort is None else Sample(abort.percentage, abort.vars)
        self._delayed = None if delay is None or not delay.duration else Sample(delay.percentage, delay.vars)
        self._body = compile_template((abort.body if abort else None) or "")
        named = (abort.headers if abort else None) or {}
        self._headers = [(name, compile_template(value)) for name, value in named.items()]

    def rewrite(self, request: Request) -> Answer:
        if self._delayed is not None and self._delayed.takes(request):
            return self._later(request)
        return self._abort(request)

    async def _later(self, request: Request) -> Reply | None:
        assert self.config.delay is not None
        await self.sleep(self.config.delay.duration)
        return self._abort(request)

    def _abort(self, request: Request) -> Reply | None:
        abort = self.config.abort
        if abort is None or self._aborted is None or not self._aborted.takes(request):
            return None
        headers = tuple((name, value.render(request)) for name, value in self._headers)
        return Reply(abort.http_status, self._body.render(request), headers)
