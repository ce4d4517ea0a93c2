"""limit-count: so many requests in so much time, by what tells clients apart.

The law: of several rules each that has its key counts, in order, and the first that refuses ends it; what was counted for a
request stays counted. What is left stands in the response, whether the request passed or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.limits.redis import FIXED_WINDOW, SLIDING_WINDOW, RedisCounters
from shared.limits.rows import LimitsFailed, prefix_of, row_key
from shared.limits.windows import Taken
from shared.plugin.builtin.limiting import FAILED, LimitSpec, key_of, servers_of
from shared.plugin.builtin.quota import Quota
from shared.plugin.fields import HeaderName, refused
from shared.plugin.plugin import Answer, Phase, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.plugin.template import compile_template
from shared.schema.common import MAX_INT, Maybe, Spec

if TYPE_CHECKING:
    from shared.plugin.host import Host

# Also from a variable: `"count": "$http_x_quota"`.
Number = Annotated[int, Field(ge=1, le=MAX_INT)] | Annotated[str, Field(min_length=1, max_length=256)]
# Of a request: a limit, its key, its count and its seconds.
Asked = tuple[Quota, str, int, int]
_NO_LIMIT = LimitsFailed("the request has no key, or no limit")


class RuleSpec(Spec):
    count: Number
    time_window: Number
    key: Annotated[str, Field(min_length=1)]
    header_prefix: Maybe[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]] = None


class LimitCountConfig(LimitSpec):
    """`time_window` in seconds."""

    key_type: Literal["var", "var_combination", "constant"] = "var"
    key: Annotated[str, Field(min_length=1)] = "remote_addr"
    count: Maybe[Number] = None
    time_window: Maybe[Number] = None
    window_type: Literal["fixed", "sliding"] = "fixed"
    rules: Maybe[Annotated[tuple[RuleSpec, ...], Field(strict=False, min_length=1, max_length=32)]] = None
    group: Maybe[Annotated[str, Field(min_length=1, max_length=256)]] = None
    show_limit_quota_header: bool = True
    # Seconds in which counts would be taken here before Redis hears of them. More would pass than may, so it is never so.
    sync_interval: Literal[-1] = -1

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if (self.rules is None) == (self.count is None and self.time_window is None):
            raise refused("value should match only one schema: expected count and time_window, or rules")
        if self.rules is None and (self.count is None or self.time_window is None):
            raise refused(f'property "{"count" if self.count is None else "time_window"}" is required')
        keys = [rule.key for rule in self.rules or ()]
        if len(set(keys)) < len(keys):
            raise refused(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r} in rules")
        return self


class LimitCountMetadata(Spec):
    limit_header: HeaderName = "X-RateLimit-Limit"
    remaining_header: HeaderName = "X-RateLimit-Remaining"
    reset_header: HeaderName = "X-RateLimit-Reset"


class LimitCount(Plugin[LimitCountConfig]):
    name = "limit-count"
    priority = 1002
    Config = LimitCountConfig
    Metadata = LimitCountMetadata
    encrypted: ClassVar[tuple[str, ...]] = ("redis_password",)

    def __init__(self, config: LimitCountConfig, metadata: LimitCountMetadata | None = None) -> None:
        super().__init__(config)
        self._quotas = _quotas(config, metadata or LimitCountMetadata())
        self._first = self._quotas[0]
        self._refusal = config.refusal()
        self._shows = config.show_limit_quota_header
        self._server = config.server()
        self._redis: RedisCounters | None = None

    def attach(self, host: Host) -> None:
        self._host = host
        whose = f"group {self.config.group}" if self.config.group else self.owner
        self._prefix = prefix_of(self.name, whose, self.config.model_dump_json())
        if self._server is not None:
            self._redis = servers_of(host).use(self._server)
        else:
            self._change = host.counters.change

    def detach(self) -> None:
        if self._server is not None:
            servers_of(self._host).leave(self._server, self._host)

    def phases(self) -> frozenset[Phase]:
        return frozenset({"access", "header_filter"}) if self._shows else frozenset({"access"})

    def access(self, request: Request) -> Answer:
        if self._redis is not None:
            return self._count_in(self._redis, request)
        quota = self._first
        if quota.take is None or self.config.rules is not None:
            return self._count_all(request)
        # Most configurations: one limit, the same for all.
        try:
            taken = self._change(row_key(self._prefix, quota.key(request) or ""), quota.take)
        except LimitsFailed as error:
            return self._failed(error)
        if self._shows:
            request.context[self] = ((quota, quota.count, taken),)
        return self._refusal if taken[0] < 0 else None

    def _count_all(self, request: Request) -> Reply | None:
        """Several limits, or those that a request says itself."""
        asked = self._asked(request)
        if not asked:
            return self._failed(_NO_LIMIT)
        try:
            for quota, key, count, seconds in asked:
                taken = self._change(row_key(self._prefix, key), quota.step(count, seconds))
                if self._is_refused(request, quota, count, taken):
                    return self._refusal
        except LimitsFailed as error:
            return self._failed(error)
        return None

    async def _count_in(self, redis: RedisCounters, request: Request) -> Reply | None:
        asked = self._asked(request)
        if not asked:
            return self._failed(_NO_LIMIT)
        script = FIXED_WINDOW if self.config.window_type == "fixed" else SLIDING_WINDOW
        try:
            for quota, key, count, seconds in asked:
                name = f"plugin-limit-count:{row_key(self._prefix, key).hex()}"
                remaining, milliseconds = await redis.run(script, name, count, seconds * 1000)
                if self._is_refused(request, quota, count, (remaining, milliseconds / 1000)):
                    return self._refusal
        except LimitsFailed as error:
            return self._failed(error)
        return None

    def _asked(self, request: Request) -> list[Asked]:
        """The limits that this request has."""
        asked = []
        for number, quota in enumerate(self._quotas):
            key, numbers = quota.key(request), quota.numbers(request)
            if key is not None and numbers is not None:
                asked.append((quota, f"{number}:{key}", *numbers))
        return asked

    def _is_refused(self, request: Request, quota: Quota, count: int, taken: Taken) -> bool:
        if self._shows:
            request.context[self] = (*request.context.get(self, ()), (quota, count, taken))
        return taken[0] < 0

    def _failed(self, error: LimitsFailed) -> Reply | None:
        self._host.failed(self.name, error)
        return None if self.config.allow_degradation else FAILED

    def header_filter(self, request: Request, response: Response) -> None:
        own = request.own
        for quota, count, taken in own.context.get(self, ()) if own is not None else ():
            quota.show(response, count, taken)


def _quotas(config: LimitCountConfig, shown: LimitCountMetadata) -> list[Quota]:
    """Raises ValueError."""
    names = (shown.limit_header, shown.remaining_header, shown.reset_header)
    if config.rules is None:
        assert config.count is not None
        assert config.time_window is not None
        return [Quota(key_of(config.key_type, config.key), config.count, config.time_window, config.window_type, names)]
    quotas = []
    for number, rule in enumerate(config.rules, 1):
        prefix = rule.header_prefix or str(number)
        own = (f"X-{prefix}-RateLimit-Limit", f"X-{prefix}-RateLimit-Remaining", f"X-{prefix}-RateLimit-Reset")
        quotas.append(Quota(compile_template(rule.key).resolved, rule.count, rule.time_window, config.window_type, own))
    return quotas
