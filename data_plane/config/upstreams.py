"""Upstreams, each compiled once and shared by all that name it.

The law: as long as an upstream says the same it is the same object with the same balancer, whoever was rewritten around
it. An upstream is known by where it is written: `upstream/ID`, or inline `route/ID`, `stream_route/ID` and `service/ID`.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_plane.balance.round_robin import SmoothRoundRobin
from data_plane.config.snapshot import STREAM_IDLE_SECONDS, KeepalivePool, Node, PassHost, Scheme, Timeouts, Upstream
from shared.schema.common import TimeoutSpec
from shared.schema.upstream import DEFAULT_PORTS, Server, UpstreamSpec


@dataclass(frozen=True, slots=True)
class _Content:
    """All that an upstream says; two equal ones are one upstream."""

    nodes: tuple[Node, ...]
    pass_host: PassHost
    upstream_host: bytes
    timeouts: Timeouts
    keepalive_pool: KeepalivePool
    scheme: Scheme
    stream_idle: float
    tls_verify: bool


@dataclass(frozen=True, slots=True)
class _Compiled:
    spec: UpstreamSpec
    content: _Content
    upstream: Upstream


class UpstreamTable:
    __slots__ = ("_compiled",)

    def __init__(self) -> None:
        self._compiled: dict[str, _Compiled] = {}

    def compile(self, name: str, spec: UpstreamSpec) -> Upstream | None:
        """None when no node of the upstream may take traffic."""
        compiled = self._compiled.get(name)
        if compiled is None or compiled.spec is not spec:
            content = _content(spec)
            upstream = compiled.upstream if compiled and compiled.content == content else _upstream(name, content)
            compiled = self._compiled[name] = _Compiled(spec, content, upstream)
        return compiled.upstream if any(node.weight for node in compiled.content.nodes) else None

    def forget(self, name: str) -> None:
        self._compiled.pop(name, None)


def timeouts(spec: TimeoutSpec | None, otherwise: Timeouts) -> Timeouts:
    return otherwise if spec is None else Timeouts(spec.connect, spec.send, spec.read)


def _content(spec: UpstreamSpec) -> _Content:
    pool = spec.keepalive_pool
    return _Content(
        nodes=tuple(_node(server, DEFAULT_PORTS.get(spec.scheme, 0)) for server in spec.servers),
        pass_host=spec.pass_host,
        upstream_host=(spec.upstream_host or "").encode(),
        timeouts=timeouts(spec.timeout, Timeouts()),
        keepalive_pool=KeepalivePool(pool.size, pool.idle_timeout, pool.requests),
        scheme=spec.scheme,
        stream_idle=STREAM_IDLE_SECONDS if spec.timeout is None else spec.timeout.read,
        tls_verify=spec.tls is not None and spec.tls.verify,
    )


def _node(server: Server, default_port: int) -> Node:
    host = f"[{server.host}]" if ":" in server.host else server.host
    authority = host if server.port == default_port else f"{host}:{server.port}"
    return Node(server.host, server.port, server.weight, authority.encode())


def _upstream(name: str, content: _Content) -> Upstream:
    return Upstream(
        name=name,
        picker=SmoothRoundRobin(content.nodes),
        scheme=content.scheme,
        pass_host=content.pass_host,
        upstream_host=content.upstream_host,
        timeouts=content.timeouts,
        keepalive_pool=content.keepalive_pool,
        stream_idle=content.stream_idle,
        tls_verify=content.tls_verify,
    )
