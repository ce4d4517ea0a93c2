"""limit-conn: so many requests under way at once, over all workers; some more wait a moment first, the others are refused.

The law: whoever was let in is counted out once, when its exchange is over, however it ended; what a worker that has died had
let in does not count any more (in Redis: not for longer than `key_ttl`).

As long as `only_use_default_delay` does not forbid it, the delay follows the time that requests take, as in APISIX: half what
it was and half what the last one took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple
from uuid import uuid4

from pydantic import Field

from shared.limits.gauge import Gauge
from shared.limits.redis import ENTER, LEAVE, RedisCounters
from shared.limits.rows import LimitsFailed, prefix_of, row_key
from shared.plugin.builtin.limiting import FAILED, LimitSpec, key_of, servers_of
from shared.plugin.plugin import Answer, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.schema.common import MAX_INT, MAX_SECONDS

if TYPE_CHECKING:
    from shared.plugin.host import Host

Count = Annotated[int, Field(ge=1, le=MAX_INT)]


class LimitConnConfig(LimitSpec):
    """`default_conn_delay` and `key_ttl` in seconds."""

    conn: Count
    burst: Annotated[int, Field(ge=0, le=MAX_INT)]
    default_conn_delay: Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
    only_use_default_delay: bool = False
    key: Annotated[str, Field(min_length=1)] = "remote_addr"
    key_type: Literal["var", "var_combination"] = "var"
    key_ttl: Count = 3600


class _Inside(NamedTuple):
    """`delay` in seconds; in Redis `who` names it, and `entering` has how many there are."""

    key: bytes
    delay: float
    who: str = ""
    entering: asyncio.Future[Sequence[int]] | None = None


class LimitConn(Plugin[LimitConnConfig]):
    name = "limit-conn"
    priority = 1003
    Config = LimitConnConfig
    encrypted: ClassVar[tuple[str, ...]] = ("redis_password",)
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, config: LimitConnConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._key = key_of(config.key_type, config.key)
        self._limit = config.conn + config.burst
        self._delay = config.default_conn_delay
        self._refusal = config.refusal()
        self._server = config.server()
        self._redis: RedisCounters | None = None

    def attach(self, host: Host) -> None:
        self._host = host
        self._prefix = prefix_of(self.name, self.owner, self.config.model_dump_json())
        if self._server is not None:
            self._redis = servers_of(host).use(self._server)
        else:
            counters = host.counters
            self._change, self._gauge = counters.change, Gauge(self._limit, counters.worker, counters.is_alive)

    def detach(self) -> None:
        if self._server is not None:
            servers_of(self._host).leave(self._server, self._host)

    def access(self, request: Request) -> Answer:
        key = row_key(self._prefix, self._key(request))
        if self._redis is not None:
            return self._enter(self._redis, key, request)
        try:
            total = self._change(key, self._gauge.enter)
        except LimitsFailed as error:
            return self._failed(error)
        if total is None:
            return self._refusal
        delay = self._delay_of(total)
        request.context[self] = _Inside(key, delay)
        return self._wait(delay) if delay else None

    def _delay_of(self, total: int) -> float:
        return self._delay * ((total - 1) // self.config.conn) if total > self.config.conn else 0.0

    async def _wait(self, seconds: float) -> Reply | None:
        await self.sleep(seconds)
        return None

    async def _enter(self, redis: RedisCounters, key: bytes, request: Request) -> Reply | None:
        who = uuid4().hex
        entering = asyncio.ensure_future(redis.run(ENTER, _name(key), self._limit, self.config.key_ttl * 1000, who))
        request.context[self] = _Inside(key, 0.0, who, entering)
        try:
            # A client that leaves meanwhile is counted perhaps, and then has to be counted out.
            (total,) = await asyncio.shield(entering)
        except LimitsFailed as error:
            return self._failed(error)
        if total < 0:
            return self._refusal
        delay = self._delay_of(total)
        request.context[self] = _Inside(key, delay, who, entering)
        return await self._wait(delay) if delay else None

    def log(self, request: Request, response: Response | None) -> None:
        inside: _Inside | None = request.context.pop(self, None)
        if inside is None:
            return
        self._learn(request, inside.delay)
        if self._redis is not None:
            self._host.background("limit-conn", self._leave(self._redis, inside))
            return
        try:
            self._change(inside.key, self._gauge.leave)
        except LimitsFailed as error:
            self._host.failed(self.name, error)

    def _learn(self, request: Request, delay: float) -> None:
        exchange = request.exchange
        if self.config.only_use_default_delay or exchange is None or exchange.duration_ns is None:
            return
        self._delay = (self._delay + max(0.0, exchange.duration_ns / 1e9 - delay)) / 2

    async def _leave(self, redis: RedisCounters, inside: _Inside) -> None:
        assert inside.entering is not None
        try:
            (total,) = await inside.entering
            if total > 0:
                await redis.run(LEAVE, _name(inside.key), inside.who)
        except LimitsFailed as error:
            self._host.failed(self.name, error)

    def _failed(self, error: LimitsFailed) -> Reply | None:
        self._host.failed(self.name, error)
        return None if self.config.allow_degradation else FAILED


def _name(key: bytes) -> str:
    return f"plugin-limit-conn:{key.hex()}"
