"""What a worker serves from: immutable, compiled, swapped whole by reference.

The law: nothing here changes after construction, except the balancers' own counters. Objects that a change did not
touch are the same objects in the next snapshot (identity is how the worker knows that a PluginContext or a pool may
stay).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

from data_plane.upstream_tls.client_tls import ClientTls
from shared.expression.request import RequestVariables
from shared.plugin.program import Bound, ErrorResponse, Filter, Program
from shared.proxy_wasm.limits import Limits as Limits

PassHost = Literal["pass", "node", "rewrite"]
FailurePolicy = Literal["fail_closed", "fail_open", "fail_reload"]
Phase = Literal["rewrite", "access"]
Dialect = Literal["proxy-wasm", "apisix"]
Scheme = Literal["http", "https", "grpc", "grpcs", "tcp", "tls"]

# nginx's proxy_timeout for streams: sessions of databases and queues are idle for minutes.
STREAM_IDLE_SECONDS = 600.0
# Picks in search of a node that was not tried yet, so that one heavy node cannot keep the search going.
PICKS = 16


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 60.0
    send: float = 60.0
    read: float = 60.0


@dataclass(frozen=True, slots=True)
class OwnTimeouts(Timeouts):
    """A route's own. They never equal those of an upstream, which its routes share, and which change in place."""


@dataclass(frozen=True, slots=True)
class Node:
    """One server of an upstream; `authority` is what `pass_host: node` sends as Host.

    `address` is what is connected to, where that is known and not `host`. `key` is what a pool knows its connections by: two
    nodes with one key may use each other's; without one it is the authority.
    """

    host: str
    port: int
    weight: int
    authority: bytes
    priority: int = 0
    address: str = ""
    key: bytes = b""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.authority)


@dataclass(frozen=True, slots=True)
class ServiceNode(Node):
    """A name whose servers DNS tells, as SRV records or as addresses. Without a port theirs count, else `default_port`."""

    default_port: int = 0


class Peer(Protocol):
    """Who a request or session comes from, and where it arrived."""

    client_address: tuple[str, int]
    local_address: tuple[str, int]


class Attempt(Protocol):
    """Hears how one attempt at a node goes: `answered` or `failed` at most once each, and that it has ended."""

    def answered(self, status: int) -> None:
        """The head of the final response has come."""

    def failed(self, kind: str) -> None:
        """It brought no response; `kind` is a key of exchange/replies.py."""

    def end(self) -> None:
        """Its connection has no more to do with it. Any time, any number of times."""


class Picker(Protocol):
    """A balancing algorithm over the nodes of one upstream. One that is a base of others has no use for requests."""

    # Whether `pick` is all that the first attempt of a request needs.
    at_once: bool = True

    def pick(self) -> Node | None:
        """The next node. None: no node may take traffic; or, not being `at_once`, whoever asks has to `choose`."""

    def key(self, head: bytes, peer: Peer | None) -> bytes:
        """What of a request decides; `head` is the open head that goes to the upstream, empty where there is none."""
        return b""

    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        """A node that is not among those tried, if one is left that may take traffic."""
        for _ in range(PICKS):
            node = self.pick()
            if node is None or node not in tried:
                return node
        return None

    def begin(self, node: Node) -> Attempt | None:
        """An attempt at this node begins; None when nobody wants to hear of it."""
        return None

    def clock(self) -> float:
        """Seconds; asked only where `at_once` is False."""
        return 0.0


@dataclass(frozen=True, slots=True)
class KeepalivePool:
    """Idle connections kept per node and worker, seconds of idleness, and requests over one connection."""

    size: int = 320
    idle_timeout: float = 60.0
    requests: int = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Upstream:
    """`stream_idle` are the seconds that a TCP session may go without a byte; `tls` is None in the clear.

    `retries` are the attempts after the first, None: as many as there are other nodes. After `retry_timeout` seconds there
    are no more of them, 0: there may always be.
    """

    name: str
    picker: Picker
    scheme: Scheme = "http"
    pass_host: PassHost = "pass"
    upstream_host: bytes = b""
    timeouts: Timeouts = Timeouts()
    keepalive_pool: KeepalivePool = KeepalivePool()
    stream_idle: float = STREAM_IDLE_SECONDS
    tls: ClientTls | None = None
    retries: int | None = None
    retry_timeout: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class WasmPlugin:
    """A wasm_plugins object as a worker runs it: one VM for each of these. `capabilities` None: all."""

    name: str
    priority: int
    sha256: str
    phase: Phase = "access"
    dialect: Dialect = "proxy-wasm"
    failure_policy: FailurePolicy = "fail_closed"
    limits: Limits = field(default_factory=Limits)
    vm_configuration: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    capabilities: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PluginBinding:
    """A plugin on a route (or global rule) with its configuration: one PluginContext each, keyed by identity.

    `owner` names where it runs, as in `route/1` or `global_rule/1`; an inherited plugin is still owned by the route.
    """

    plugin: WasmPlugin
    configuration: bytes
    owner: str
    priority: int
    passes: Filter | None = None
    error_response: ErrorResponse | None = None

    @property
    def name(self) -> str:
        return self.plugin.name


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class NativeBinding:
    """A native plugin on a route (or global rule): what it is made from, and itself."""

    source: object = field(repr=False)
    bound: Bound = field(repr=False)
    owner: str
    priority: int

    @property
    def name(self) -> str:
        return self.bound.plugin.name


Binding = PluginBinding | NativeBinding


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """`problem` (and no `upstream`) when the route matches but cannot be served: a key of exchange/replies.py. `program` is
    what the bindings do when all of them are native.
    """

    id: str
    name: str
    upstream: Upstream | None
    bindings: tuple[Binding, ...]
    timeouts: Timeouts
    service_id: str | None = None
    problem: str | None = None
    program: Program | None = None
    enable_websocket: bool = False


# What a router's `match` answers when more of the request decides: then the snapshot's `choose` has the route. It has a program
# only so that no other route is asked for one.
BY_REQUIREMENT = Route("", "", None, (cast(Binding, None),), Timeouts(), program=Program())


class Router(Protocol):
    def match(self, method: bytes, host: bytes, path: bytes) -> Route | None:
        """`method` in upper case, `host` without port in lower case, `path` normalised and without query."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamRoute:
    """`problem` (and no `upstream`) when the route matches but cannot be served."""

    id: str
    name: str
    upstream: Upstream | None
    bindings: tuple[PluginBinding, ...] = ()
    problem: str | None = None


class StreamRouter(Protocol):
    def match(self, remote_addr: str, server_addr: str, server_port: int, sni: bytes) -> StreamRoute | None:
        """Addresses as the socket has them; `sni` in lower case without a final dot, empty when the client named none."""


class _NoStreams:
    def match(self, remote_addr: str, server_addr: str, server_port: int, sni: bytes) -> StreamRoute | None:
        return None


NO_STREAMS = _NoStreams()


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """Who may connect: `ca` is PEM, `depth` how many certificates may stand between. Paths with a match of `skip` are open to
    others too."""

    ca: str
    depth: int = 1
    skip: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Ssl:
    """An ssls object as a listener uses it: certificates with their keys, in PEM; `protocols` from the oldest on."""

    id: str
    pairs: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    protocols: tuple[str, ...]
    client: ClientAuth | None = None


class SslNames(Protocol):
    def match(self, name: bytes) -> Ssl | None:
        """`name` in lower case without a final dot, empty when the client named none."""


class _NoNames:
    def match(self, name: bytes) -> Ssl | None:
        return None


NO_NAMES = _NoNames()


@dataclass(frozen=True, slots=True, eq=False)
class SslTable:
    """`guards`: some of them want a certificate from clients. `clients`: certificates with their keys (PEM) that upstreams are
    shown, by id."""

    names: SslNames = NO_NAMES
    all: tuple[Ssl, ...] = ()
    guards: bool = False
    clients: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)


NO_SSLS = SslTable()


def _no_upstream(name: str) -> Upstream | None:
    return None


def _no_route(request: RequestVariables) -> Route | None:
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """`routes` are all that can match; `global_bindings` run for requests that match none; `plugins` by name.

    `find_upstream` answers what a plugin's call names, as of now and not of the snapshot. `choose` is asked when the router has
    answered BY_REQUIREMENT; it raises BodyNeeded.
    """

    revision: int
    router: Router
    routes: Mapping[str, Route]
    global_bindings: tuple[Binding, ...] = ()
    plugins: Mapping[str, WasmPlugin] = field(default_factory=dict)
    stream_router: StreamRouter = NO_STREAMS
    stream_routes: Mapping[str, StreamRoute] = field(default_factory=dict)
    find_upstream: Callable[[str], Upstream | None] = _no_upstream
    ssls: SslTable = NO_SSLS
    global_program: Program | None = None
    choose: Callable[[RequestVariables], Route | None] = _no_route
