"""The same counts in Redis, for gateways on many hosts.

The law: each count is one script, so Redis itself makes it one change; its clock counts where a clock does. A call answers
within the timeout or raises LimitsFailed; when an answer is lost, what was counted stays counted. Times are milliseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.limits.rows import LimitsFailed

# Connections of one worker; further calls wait for one.
CONNECTIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is: `nodes` are (host, port), more than one only of a cluster; `timeout` in seconds is for a whole call."""

    nodes: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    timeout: float = 1.0
    tls: bool = False
    verify: bool = False
    cluster: bool = False
    connections: int = CONNECTIONS


class Script:
    """Of one key, whose answer is whole numbers."""

    __slots__ = ("digest", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


# Arguments: count, window. Answer: how many remain (-1: refused), when the window ends.
FIXED_WINDOW: Final = Script("""
local count, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local left = redis.call('PTTL', KEYS[1])
if left <= 0 then
    redis.call('SET', KEYS[1], 1, 'PX', window)
    return {count - 1, window}
end
local passed = tonumber(redis.call('GET', KEYS[1]))
if passed >= count then
    return {-1, left}
end
redis.call('INCR', KEYS[1])
return {count - passed - 1, left}
""")

_NOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
"""

# The same.
SLIDING_WINDOW: Final = Script(
    _NOW
    + """
local count, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local number = math.floor(now / window)
local left = window - now % window
local row = redis.call('HMGET', KEYS[1], 'window', 'passed', 'before')
local passed, before = 0, 0
if tonumber(row[1]) == number then
    passed, before = tonumber(row[2]), tonumber(row[3])
elseif tonumber(row[1]) == number - 1 then
    before = tonumber(row[2])
end
local covered = before * left / window
if passed >= count then
    return {-1, math.ceil(left)}
end
if passed + covered + 1 > count then
    return {-1, math.ceil(left - (count - passed - 1) * window / before)}
end
redis.call('HSET', KEYS[1], 'window', number, 'passed', passed + 1, 'before', before)
redis.call('PEXPIRE', KEYS[1], 2 * window)
return {math.floor(count - passed - 1 - covered), math.ceil(left)}
"""
)

# Arguments: rate, burst. Answer: after how many microseconds it is this request's turn (-1: refused).
LEAKY_BUCKET: Final = Script(
    _NOW
    + """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local row = redis.call('HMGET', KEYS[1], 'last', 'excess')
local excess = 0
if row[1] then
    excess = math.max(0, tonumber(row[2]) - rate * math.max(0, now - tonumber(row[1])) / 1000 + 1)
    if excess > burst then
        return {-1}
    end
end
redis.call('HSET', KEYS[1], 'last', string.format('%.3f', now), 'excess', string.format('%.17g', excess))
redis.call('PEXPIRE', KEYS[1], math.ceil((excess + 1) / rate * 1000))
return {math.floor(excess / rate * 1000000)}
"""
)

# Arguments: limit, lifetime, who. Answer: how many there are now (-1: as many as there may be). Whoever dies inside counts for
# the lifetime.
ENTER: Final = Script(
    _NOW
    + """
local limit, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local total = redis.call('ZCARD', KEYS[1])
if total >= limit then
    return {-1}
end
redis.call('ZADD', KEYS[1], now + lifetime, ARGV[3])
redis.call('PEXPIRE', KEYS[1], lifetime)
return {total + 1}
"""
)

# Argument: who.
LEAVE: Final = Script("return {redis.call('ZREM', KEYS[1], ARGV[1])}")


class RedisCounters:
    """One worker's connections to a server or cluster, made when they are needed. Runs scripts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: Any = None
        self._missing: type[Exception] = Exception
        self._failures: tuple[type[Exception], ...] = (OSError,)
        self._opening = asyncio.Lock()

    async def run(self, script: Script, key: str, *arguments: float | str) -> Sequence[int]:
        """Raises LimitsFailed."""
        try:
            if self._client is None:
                await self._open()
            async with asyncio.timeout(self._server.timeout):
                return await self._evaluate(script, key, arguments)
        except TimeoutError:
            raise LimitsFailed(f"redis does not answer within {self._server.timeout:g} s") from None
        except self._failures as error:
            raise LimitsFailed(f"redis: {error}") from error

    async def _evaluate(self, script: Script, key: str, arguments: tuple[float | str, ...]) -> Sequence[int]:
        client = self._client
        found: Sequence[int]
        try:
            found = await client.evalsha(script.digest, 1, key, *arguments)
        except self._missing:
            found = await client.eval(script.source, 1, key, *arguments)
        return found

    async def _open(self) -> None:
        async with self._opening:
            if self._client is None:
                # A third of a second of reading modules, in which requests are served.
                redis = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
                errors = importlib.import_module("redis.exceptions")
                self._missing, self._failures = errors.NoScriptError, (errors.RedisError, OSError)
                self._client = _client(redis, self._server)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _client(redis: Any, server: Server) -> Any:  # noqa: ANN401 - the package is imported late
    backoff = importlib.import_module("redis.backoff")
    options: dict[str, Any] = {
        # Once, at once: a connection that was kept may have ended.
        "retry": importlib.import_module("redis.asyncio.retry").Retry(backoff.NoBackoff(), 1),
        "username": server.username,
        "password": server.password,
        "socket_timeout": server.timeout,
        "socket_connect_timeout": server.timeout,
    }
    if server.tls:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required" if server.verify else "none",
            "ssl_check_hostname": server.verify,
        }
    if server.cluster:
        cluster = importlib.import_module("redis.asyncio.cluster")
        nodes = [cluster.ClusterNode(host, port) for host, port in server.nodes]
        return cluster.RedisCluster(startup_nodes=nodes, max_connections=server.connections, **options)
    (host, port) = server.nodes[0]
    return redis.Redis(host=host, port=port, db=server.database, max_connections=server.connections, **options)
