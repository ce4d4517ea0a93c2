"""What an upstream's health checks ask for, compiled: how nodes are probed, and how an outcome is judged.

The law: an outcome counts for one counter and its limit, or for nothing; a limit of 0 switches its counter off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.health.machine import Counter
from data_plane.upstream_tls.client_tls import ClientTls
from shared.schema.checks import ActiveSpec, ChecksSpec, PassiveSpec

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from shared.schema.upstream import UpstreamSpec

# A probe of type tcp has connected.
CONNECTED: Final = 3
# What answered does not speak HTTP.
NO_HTTP: Final = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Statuses in neither set mean nothing."""

    healthy: frozenset[int]
    unhealthy: frozenset[int]
    successes: int
    tcp_failures: int
    http_failures: int
    timeouts: int

    def judge(self, outcome: int) -> tuple[Counter, int] | None:
        """`outcome` is a status, or one of TCP_FAILURE, TIMEOUT, CONNECTED and NO_HTTP. The counter, and what it counts to."""
        if outcome == TCP_FAILURE:
            counter, limit = Counter.TCP_FAILURE, self.tcp_failures
        elif outcome == TIMEOUT:
            counter, limit = Counter.TIMEOUT_FAILURE, self.timeouts
        elif outcome == CONNECTED or outcome in self.healthy:
            counter, limit = Counter.SUCCESS, self.successes
        elif outcome == NO_HTTP or outcome in self.unhealthy:
            counter, limit = Counter.HTTP_FAILURE, self.http_failures
        else:
            return None
        return (counter, limit) if limit else None


@dataclass(frozen=True, slots=True)
class Probing:
    """Seconds; `host` and `port` empty where the node's own count. `fields` are whole lines."""

    type: Literal["http", "https", "tcp"]
    timeout: float
    concurrency: int
    host: str
    port: int
    method: str
    path: str
    body: bytes
    fields: tuple[str, ...]
    verify: bool
    healthy_interval: float
    unhealthy_interval: float


@dataclass(frozen=True, slots=True)
class Asking:
    """As whom a probe asks. `host` is empty where it is the node's own; `tls` is for probes over it."""

    host: str
    tls: ClientTls

    def host_of(self, node: Node) -> str:
        return self.host or node.authority.decode()


@dataclass(frozen=True, slots=True)
class Checks:
    """`passive` None: the requests themselves are not looked at."""

    probing: Probing
    active: Rules
    passive: Rules | None


def asking_of(spec: UpstreamSpec) -> Asking:
    """As in APISIX an upstream's own Host goes before the host of the check, and so does that of its nodes where it is sent."""
    active = None if spec.checks is None else spec.checks.active
    host = spec.upstream_host if spec.pass_host == "rewrite" else None
    if host is None and active is not None and spec.pass_host != "node":
        host = active.host
    shown = spec.tls
    tls = ClientTls(
        verify=active is None or active.https_verify_certificate,
        certificate=(shown.client_cert or "") if shown else "",
        private_key=(shown.client_key or "") if shown else "",
        certificate_id=(shown.client_cert_id or "") if shown else "",
    )
    return Asking(host or "", tls)


def compile_checks(spec: ChecksSpec) -> Checks:
    active = spec.active
    probing = Probing(
        type=active.type,
        timeout=active.timeout,
        concurrency=active.concurrency,
        host=active.host or "",
        port=active.port or 0,
        method=active.http_method,
        path=active.http_path,
        body=active.http_req_body.encode(),
        fields=active.req_headers or (),
        verify=active.https_verify_certificate,
        healthy_interval=float(active.healthy.interval),
        unhealthy_interval=float(active.unhealthy.interval),
    )
    return Checks(probing, _rules(active), None if spec.passive is None else _rules(spec.passive))


def _rules(spec: ActiveSpec | PassiveSpec) -> Rules:
    return Rules(
        healthy=frozenset(spec.healthy.http_statuses),
        unhealthy=frozenset(spec.unhealthy.http_statuses),
        successes=spec.healthy.successes,
        tcp_failures=spec.unhealthy.tcp_failures,
        http_failures=spec.unhealthy.http_failures,
        timeouts=spec.unhealthy.timeouts,
    )
