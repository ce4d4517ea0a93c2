"""Upstreams, each compiled once and shared by all that name it.

The law: as long as an upstream says the same it is the same object with the same balancer, whoever was rewritten around
it. One that says something else is the same object, too, as long as its routes have nothing to do with that: it gets what is
new in the moment in which the snapshot is made (`settle`), and 100,000 routes need not be looked at for one new node.

An upstream is known by where it is written: `upstream/ID`, or inline `route/ID`, `stream_route/ID` and `service/ID`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from data_plane.balance.balancer import Balancer, Balancing
from data_plane.balance.hash_key import hash_key
from data_plane.balance.health import Unwatched, Watchers
from data_plane.config.snapshot import (
    STREAM_IDLE_SECONDS,
    KeepalivePool,
    Node,
    PassHost,
    Scheme,
    ServiceNode,
    Timeouts,
    Upstream,
)
from data_plane.upstream_tls.client_tls import ClientTls, host_of
from shared.schema.balancing import BalancerType, HashOn
from shared.schema.checks import ChecksSpec
from shared.schema.common import TimeoutSpec
from shared.schema.upstream import H2_SCHEMES, TLS_SCHEMES, Server, UpstreamSpec


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
    tls: ClientTls | None
    type: BalancerType
    hash_on: HashOn
    key: str
    retries: int | None
    retry_timeout: float
    checks: ChecksSpec | None


@dataclass(frozen=True, slots=True)
class _Compiled:
    spec: UpstreamSpec
    content: _Content
    upstream: Upstream
    balancer: Balancer


class UpstreamTable:
    """`watchers` watch the nodes; `clock` tells monotonic seconds."""

    __slots__ = ("_clock", "_compiled", "_renewals", "_watchers")

    def __init__(self, watchers: Watchers | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._watchers: Watchers = watchers or Unwatched()
        self._clock = clock
        self._compiled: dict[str, _Compiled] = {}
        self._renewals: list[tuple[Upstream, Upstream]] = []

    def compile(self, name: str, spec: UpstreamSpec) -> Upstream | None:
        """None when no node of the upstream may take traffic."""
        compiled = self._compiled.get(name)
        if compiled is None or compiled.spec is not spec:
            content = _content(spec)
            if compiled is None or compiled.content != content:
                compiled = self._next(name, spec, content, compiled)
            else:
                compiled = _Compiled(spec, content, compiled.upstream, compiled.balancer)
            self._compiled[name] = compiled
        return compiled.upstream if _is_usable(compiled.content) else None

    def renews(self, name: str, spec: UpstreamSpec) -> bool:
        """Compiles it; whether those that have it need not be looked at."""
        before = self._compiled.get(name)
        return before is not None and _is_usable(before.content) and self.compile(name, spec) is before.upstream

    def settle(self) -> None:
        """What was compiled counts from now on."""
        for upstream, fresh in self._renewals:
            _copy(upstream.timeouts, fresh.timeouts)
            for name in Upstream.__slots__:
                if name != "timeouts":
                    object.__setattr__(upstream, name, getattr(fresh, name))
        self._renewals.clear()

    def _next(self, name: str, spec: UpstreamSpec, content: _Content, before: _Compiled | None) -> _Compiled:
        balancer = self._balancer(name, spec, content, before.balancer if before else None)
        upstream = _upstream(name, content, balancer)
        if before is not None and _shows_no_difference(before.content, content):
            self._renewals.append((before.upstream, upstream))
            upstream = before.upstream
        return _Compiled(spec, content, upstream, balancer)

    def forget(self, name: str) -> None:
        if self._compiled.pop(name, None) is not None:
            self._watchers.forget(name)

    def _balancer(self, name: str, spec: UpstreamSpec, content: _Content, before: Balancer | None) -> Balancer:
        key = hash_key(content.hash_on, content.key) if content.type == "chash" else None
        return Balancer(
            content.nodes,
            self._clock,
            Balancing(content.type, key, deadline=content.retry_timeout > 0),
            self._watchers.health(name, spec),
            self._watchers.addresses(name, content.nodes),
            before,
        )


def _is_usable(content: _Content) -> bool:
    return any(node.weight for node in content.nodes)


def _shows_no_difference(one: _Content, other: _Content) -> bool:
    """Whether routes are the same with either: what they have taken from their upstream. Its timeouts they share with it."""
    return one.scheme == other.scheme and _is_usable(one) == _is_usable(other)


def _copy(to: Timeouts, source: Timeouts) -> None:
    for name in Timeouts.__slots__:
        object.__setattr__(to, name, getattr(source, name))


def _timeouts(spec: TimeoutSpec | None) -> Timeouts:
    return Timeouts() if spec is None else Timeouts(spec.connect, spec.send, spec.read)


def _content(spec: UpstreamSpec) -> _Content:
    pool, tls = spec.keepalive_pool, client_tls(spec)
    return _Content(
        nodes=tuple(_node(server, spec, tls) for server in spec.servers),
        pass_host=spec.pass_host,
        upstream_host=(spec.upstream_host or "").encode(),
        timeouts=_timeouts(spec.timeout),
        keepalive_pool=KeepalivePool(pool.size, pool.idle_timeout, pool.requests),
        scheme=spec.scheme,
        stream_idle=STREAM_IDLE_SECONDS if spec.timeout is None else spec.timeout.read,
        tls=tls,
        type=spec.type,
        hash_on=spec.hash_on,
        key=spec.key or "",
        retries=spec.retries,
        retry_timeout=spec.retry_timeout,
        checks=spec.checks,
    )


def client_tls(spec: UpstreamSpec) -> ClientTls | None:
    if spec.scheme not in TLS_SCHEMES:
        return None
    shown = spec.tls
    return ClientTls(
        verify=spec.verifies,
        server_name=host_of(spec.upstream_host or "") if spec.pass_host == "rewrite" else "",
        certificate=(shown.client_cert or "") if shown else "",
        private_key=(shown.client_key or "") if shown else "",
        certificate_id=(shown.client_cert_id or "") if shown else "",
    )


def _node(server: Server, spec: UpstreamSpec, tls: ClientTls | None) -> Node:
    host = f"[{server.host}]" if ":" in server.host else server.host
    authority = (host if server.port in (0, spec.default_port) else f"{host}:{server.port}").encode()
    # Without TLS every upstream may use the connections to an address, whatever its name says of the port.
    key = authority if tls is None else tls.key_for(f"{host}:{server.port}".encode(), server.host)
    if spec.scheme in H2_SCHEMES:
        key = b"h2#" + key
    if spec.service_name is not None:
        return ServiceNode(server.host, server.port, server.weight, authority, key=key, default_port=spec.default_port)
    return Node(server.host, server.port, server.weight, authority, server.priority, key=key)


def _upstream(name: str, content: _Content, balancer: Balancer) -> Upstream:
    return Upstream(
        name=name,
        picker=balancer,
        scheme=content.scheme,
        pass_host=content.pass_host,
        upstream_host=content.upstream_host,
        # Its own: they change in place.
        timeouts=replace(content.timeouts),
        keepalive_pool=content.keepalive_pool,
        stream_idle=content.stream_idle,
        tls=content.tls,
        retries=content.retries,
        retry_timeout=content.retry_timeout,
    )
