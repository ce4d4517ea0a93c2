"""Upstreams: the servers behind a route.

The law: every value accepted here is one that the balancer and the upstream client honour today.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from shared.schema.balancing import BalancerType, HashKeyText, HashOn, Retries, RetryTimeout, problem_with_key
from shared.schema.checks import ChecksSpec
from shared.schema.common import MAX_INT, MAX_SECONDS, Array, Described, Integer, Maybe, NotYet, Spec, TimeoutSpec, later
from shared.schema.errors import INSIDE
from shared.schema.hosts import Address, Host, split_address
from shared.schema.upstream_tls import TlsSpec

# Schemes of streams have none.
DEFAULT_PORTS = {"http": 80, "grpc": 80, "https": 443, "grpcs": 443}
# Those that routes may have.
HTTP_SCHEMES = frozenset({"http", "https", "grpc", "grpcs"})
H2_SCHEMES = frozenset({"grpc", "grpcs"})
# Over TLS, and whether a server's certificate is looked at where nothing is said.
TLS_SCHEMES = {"https": True, "grpcs": True, "tls": False}

# What else APISIX can ask for the nodes of a service.
_OTHER_DISCOVERY = ("consul", "consul_kv", "nacos", "eureka", "kubernetes", "tars", "zookeeper")

Weight = Annotated[int, Field(ge=0, le=MAX_INT)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _refuse(text: str, *inside: str) -> PydanticCustomError:
    """`inside` leads to the property that is to blame, where it is one."""
    return PydanticCustomError("upstream", "{text}", {"text": text, INSIDE: inside})


class Server(NamedTuple):
    """One node after its two notations are levelled; an IPv6 `host` has no brackets."""

    host: str
    port: int
    weight: int
    priority: int = 0


class NodeSpec(Spec):
    host: Host
    port: Maybe[Port] = None
    weight: Weight
    priority: Integer = 0
    metadata: NotYet = None


class KeepalivePoolSpec(Spec):
    size: Annotated[int, Field(ge=1, le=MAX_INT)] = 320
    idle_timeout: Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)] = 60.0
    requests: Annotated[int, Field(ge=1, le=MAX_INT)] = 1000


def _array_or_object(value: object) -> str | None:
    return "#array" if isinstance(value, list) else "#object" if isinstance(value, dict) else None


Nodes = Annotated[
    Annotated[Array[NodeSpec], Tag("#array")] | Annotated[dict[Address, Weight], Tag("#object")],
    Discriminator(_array_or_object, custom_error_type="array_or_object", custom_error_message="array or object"),
]


class UpstreamSpec(Described):
    nodes: Maybe[Nodes] = None
    type: BalancerType = "roundrobin"
    hash_on: HashOn = "vars"
    key: Maybe[HashKeyText] = None
    retries: Maybe[Retries] = None
    retry_timeout: RetryTimeout = 0.0
    scheme: Annotated[Literal["http", "https", "grpc", "grpcs", "tcp", "tls"], later("udp", "kafka")] = "http"
    pass_host: Literal["pass", "node", "rewrite"] = "pass"
    upstream_host: Maybe[Address] = None
    timeout: Maybe[TimeoutSpec] = None
    keepalive_pool: KeepalivePoolSpec = KeepalivePoolSpec()

    tls: Maybe[TlsSpec] = None
    checks: Maybe[ChecksSpec] = None
    service_name: Maybe[Annotated[Address, Field(max_length=256)]] = None
    discovery_type: Maybe[Annotated[Literal["dns"], later(*_OTHER_DISCOVERY)]] = None
    discovery_args: NotYet = None

    @model_validator(mode="after")
    def _chash_needs_a_key(self) -> Self:
        if self.type == "chash":
            problem = problem_with_key(self.hash_on, self.key)
            if problem is not None:
                raise _refuse(problem, *(() if self.key is None else ("key",)))
        return self

    @model_validator(mode="after")
    def _rewrite_needs_a_host(self) -> Self:
        if self.pass_host == "rewrite" and self.upstream_host is None:
            raise _refuse("`upstream_host` can't be empty when `pass_host` is `rewrite`")
        return self

    @model_validator(mode="after")
    def _has_servers(self) -> Self:
        if self.nodes is None and self.service_name is None:
            raise _refuse('property "nodes" is required, or "service_name" with "discovery_type"')
        if self.nodes is not None and self.service_name is not None:
            raise _refuse('expected "nodes" or "service_name", got both')
        if (self.service_name is None) is not (self.discovery_type is None):
            raise _refuse('"service_name" and "discovery_type" come together')
        return self

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        if self.tls is not None and self.scheme not in TLS_SCHEMES:
            raise _refuse(f"`tls` needs a `scheme` over TLS ({', '.join(TLS_SCHEMES)}), got {self.scheme}")
        if self.scheme not in DEFAULT_PORTS and self.service_name is None:
            for server in self._servers():
                if not server.port:
                    raise _refuse(f'node "{server.host}" needs a port: scheme {self.scheme} has no default')
        return self

    @property
    def default_port(self) -> int:
        """0 where the scheme has none."""
        return DEFAULT_PORTS.get(self.scheme, 0)

    @property
    def verifies(self) -> bool:
        """Whether a server must prove its name; meaningless without TLS."""
        said = None if self.tls is None else self.tls.verify
        return TLS_SCHEMES.get(self.scheme, True) if said is None else said

    @property
    def servers(self) -> tuple[Server, ...]:
        """All nodes in the order of the document, each with a port; of a service one, whose port may be 0: DNS tells it."""
        return tuple(self._servers())

    def _servers(self) -> list[Server]:
        default = self.default_port
        if self.service_name is not None:
            host, port = split_address(self.service_name)
            return [Server(host, port or 0, 1)]
        if isinstance(self.nodes, dict):
            pairs = ((split_address(address), weight) for address, weight in self.nodes.items())
            return [Server(host, port or default, weight) for (host, port), weight in pairs]
        return [
            Server(split_address(node.host)[0], node.port or default, node.weight, node.priority) for node in self.nodes or ()
        ]
