"""limit-req: requests at an even rate; some that come too early wait for their turn, the others are refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from shared.limits.bucket import LeakyBucket
from shared.limits.redis import LEAKY_BUCKET, RedisCounters
from shared.limits.rows import LimitsFailed, prefix_of, row_key
from shared.plugin.builtin.limiting import FAILED, LimitSpec, key_of, servers_of
from shared.plugin.plugin import Answer, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import MAX_INT

if TYPE_CHECKING:
    from shared.plugin.host import Host

# Less is not worth a pause of the request.
SHORTEST_DELAY = 0.001


class LimitReqConfig(LimitSpec):
    """`rate` in requests a second; `burst` of them may wait."""

    rate: Annotated[float, Field(gt=0, le=MAX_INT, allow_inf_nan=False)]
    burst: Annotated[float, Field(ge=0, le=MAX_INT, allow_inf_nan=False)]
    key: Annotated[str, Field(min_length=1)]
    key_type: Literal["var", "var_combination"] = "var"
    nodelay: bool = False


class LimitReq(Plugin[LimitReqConfig]):
    name = "limit-req"
    priority = 1001
    Config = LimitReqConfig
    encrypted: ClassVar[tuple[str, ...]] = ("redis_password",)
    sleep = staticmethod(asyncio.sleep)

    def __init__(self, config: LimitReqConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._key = key_of(config.key_type, config.key)
        self._add = LeakyBucket(config.rate, config.burst).add
        self._refusal = config.refusal()
        self._server = config.server()
        self._redis: RedisCounters | None = None

    def attach(self, host: Host) -> None:
        self._host = host
        self._prefix = prefix_of(self.name, self.owner, self.config.model_dump_json())
        if self._server is not None:
            self._redis = servers_of(host).use(self._server)
        else:
            self._change = host.counters.change

    def detach(self) -> None:
        if self._server is not None:
            servers_of(self._host).leave(self._server, self._host)

    def access(self, request: Request) -> Answer:
        key = row_key(self._prefix, self._key(request))
        if self._redis is not None:
            return self._ask(self._redis, key)
        try:
            delay = self._change(key, self._add)
        except LimitsFailed as error:
            return self._failed(error)
        if delay is None:
            return self._refusal
        return None if delay < SHORTEST_DELAY or self.config.nodelay else self._wait(delay)

    async def _wait(self, seconds: float) -> Reply | None:
        await self.sleep(seconds)
        return None

    async def _ask(self, redis: RedisCounters, key: bytes) -> Reply | None:
        config = self.config
        try:
            (microseconds,) = await redis.run(LEAKY_BUCKET, f"plugin-limit-req:{key.hex()}", config.rate, config.burst)
        except LimitsFailed as error:
            return self._failed(error)
        if microseconds < 0:
            return self._refusal
        return None if microseconds < SHORTEST_DELAY * 1e6 or config.nodelay else await self._wait(microseconds / 1e6)

    def _failed(self, error: LimitsFailed) -> Reply | None:
        self._host.failed(self.name, error)
        return None if self.config.allow_degradation else FAILED
