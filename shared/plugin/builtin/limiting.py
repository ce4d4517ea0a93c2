"""What the plugins that limit have in common: what they count by, what they answer, where their counts are.

The law: a count belongs to where the plugin's configuration stands and to what it says, so it lives as long as that says the
same, whatever else changes; or to a group. When counts cannot be had the answer is 500, or, with `allow_degradation`, no limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Self
from weakref import WeakKeyDictionary

from pydantic import Field, model_validator

from shared.expression.variables import find_reader
from shared.limits.redis import CONNECTIONS, RedisCounters, Server
from shared.plugin.fields import Message, Status, refused
from shared.plugin.head import text
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.plugin.template import compile_template
from shared.schema.common import MAX_INT, Maybe, SomeUnique, Spec, later
from shared.schema.hosts import split_address

if TYPE_CHECKING:
    from shared.plugin.host import Host

FAILED = Reply(500, {"error_msg": "failed to limit the request"})

KeyOf = Callable[[Request], str]
Port = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[int, Field(ge=1, le=MAX_INT)]


class LimitSpec(Spec):
    """`redis_timeout` in milliseconds."""

    rejected_code: Status = 503
    rejected_msg: Maybe[Message] = None
    allow_degradation: bool = False
    policy: Annotated[Literal["local", "redis", "redis-cluster"], later("redis-sentinel")] = "local"
    redis_host: Maybe[Annotated[str, Field(min_length=2, max_length=253)]] = None
    redis_port: Port = 6379
    redis_username: Maybe[Annotated[str, Field(min_length=1)]] = None
    redis_password: Maybe[str] = None
    redis_database: Annotated[int, Field(ge=0, le=MAX_INT)] = 0
    redis_timeout: Milliseconds = 1000
    redis_ssl: bool = False
    redis_ssl_verify: bool = False
    redis_keepalive_timeout: Annotated[int, Field(ge=1000, le=MAX_INT)] = 10_000
    redis_keepalive_pool: Annotated[int, Field(ge=1, le=10_000)] = CONNECTIONS
    redis_cluster_nodes: Maybe[SomeUnique[Annotated[str, Field(min_length=2, max_length=100)]]] = None
    redis_cluster_name: Maybe[str] = None
    redis_cluster_ssl: bool = False
    redis_cluster_ssl_verify: bool = False

    @model_validator(mode="after")
    def _place_of_counts(self) -> Self:
        wanted = {"redis": ("redis_host",), "redis-cluster": ("redis_cluster_nodes", "redis_cluster_name")}
        for name in wanted.get(self.policy, ()):
            if getattr(self, name) is None:
                raise refused(f'property "{name}" is required when policy is {self.policy}')
        self.server()
        return self

    def server(self) -> Server | None:
        """None: the counts are in memory."""
        if self.policy == "local":
            return None
        cluster = self.policy == "redis-cluster"
        return Server(
            tuple(map(_node, self.redis_cluster_nodes or ())) if cluster else ((self.redis_host or "", self.redis_port),),
            self.redis_username,
            self.redis_password,
            0 if cluster else self.redis_database,
            self.redis_timeout / 1000,
            self.redis_cluster_ssl if cluster else self.redis_ssl,
            self.redis_cluster_ssl_verify if cluster else self.redis_ssl_verify,
            cluster,
            self.redis_keepalive_pool,
        )

    def refusal(self) -> Reply:
        return Reply(self.rejected_code, b"" if self.rejected_msg is None else {"error_msg": self.rejected_msg})


def _node(address: str) -> tuple[str, int]:
    host, port = split_address(address)
    if port is None:
        raise refused(f'expected "host:port", got {address!r}')
    return host, port


def key_of(kind: str, key: str) -> KeyOf:
    """What requests are told apart by; the client's address where the request has nothing of it. Raises PydanticCustomError."""
    if kind == "constant":
        return lambda request: key
    if kind == "var" and key == "remote_addr":
        return _address
    try:
        return _by_variable(key) if kind == "var" else _by_template(key)
    except ValueError as error:
        raise refused(str(error)) from None


def _address(request: Request) -> str:
    return request.client_ip


def _by_variable(name: str) -> KeyOf:
    read = find_reader(name.removeprefix("$"), True)

    def key(request: Request) -> str:
        value = read(request.variables)
        if value is None or value == b"":
            return request.client_ip
        return text(value) if isinstance(value, bytes) else str(value)

    return key


def _by_template(source: str) -> KeyOf:
    template = compile_template(source)

    def key(request: Request) -> str:
        return template.resolved(request) or request.client_ip

    return key


class Servers:
    """Of one worker: one object for all plugins that name the same server, for as long as one of them does."""

    def __init__(self) -> None:
        self._users: dict[Server, int] = {}
        self._counters: dict[Server, RedisCounters] = {}

    def use(self, server: Server) -> RedisCounters:
        self._users[server] = self._users.get(server, 0) + 1
        if server not in self._counters:
            self._counters[server] = RedisCounters(server)
        return self._counters[server]

    def leave(self, server: Server, host: Host) -> None:
        self._users[server] -= 1
        if not self._users[server]:
            del self._users[server]
            host.background("redis", self._counters.pop(server).close())


_SERVERS: WeakKeyDictionary[Host, Servers] = WeakKeyDictionary()


def servers_of(host: Host) -> Servers:
    return _SERVERS.setdefault(host, Servers())
