"""The health checks of a worker: who watches which upstream, who of the host's workers probes, and what the others found.

The law: one worker of the host probes, the oldest that lives; all of them count what their requests show, and each acts on what
any of them found within `POLL_SECONDS`. A worker that can share nothing probes for itself. What is known of a node stays while
its upstream has it, whatever else changes.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import structlog

from data_plane.health.checks import compile_checks
from data_plane.health.probe import Finding, probe
from data_plane.health.prober import MOST_PROBES, Prober
from data_plane.health.rows import LocalRows, Rows
from data_plane.health.watched import Verdicts, WatchedNodes
from data_plane.upstream_tls.client_tls import ClientTls
from data_plane.upstream_tls.contexts import ClientContexts

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from shared.schema.upstream import UpstreamSpec

log = structlog.get_logger("upstream")

# Asking for the version is one read of 1 us.
POLL_SECONDS = 0.25
# Who probes, and which rows there are, is looked at every so many polls.
TEND_POLLS = 4


class _Asking:
    """How the probes of one upstream ask: its Host rule and its client certificate."""

    __slots__ = ("_by_node", "_rewritten", "tls")

    def __init__(self, spec: UpstreamSpec) -> None:
        active = spec.checks.active if spec.checks is not None else None
        self._rewritten = spec.upstream_host or "" if spec.pass_host == "rewrite" else ""
        self._by_node = spec.pass_host == "node" or active is None or active.host is None
        secured = spec.tls
        self.tls = ClientTls(
            verify=active is None or active.https_verify_certificate,
            certificate=(secured.client_cert or "") if secured else "",
            private_key=(secured.client_key or "") if secured else "",
        )

    def host(self, watched: WatchedNodes, node: Node) -> str:
        """As APISIX: the upstream's own Host, that of the node, or that of the check."""
        return self._rewritten or (node.authority.decode() if self._by_node else watched.checks.probing.host)


class HealthService:
    """The `health` of Watchers. Compiling happens in a thread now and then: what it asks here only notes what is wanted."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, rows: Rows | None, contexts: ClientContexts, poll: float = POLL_SECONDS
    ) -> None:
        self._loop = loop
        self._contexts = contexts
        self._poll = poll
        self._rows: Rows = LocalRows() if rows is None else rows
        self._verdicts = Verdicts(self._rows)
        self._watched: dict[str, WatchedNodes] = {}
        self._asking: dict[str, _Asking] = {}
        self._probers: dict[str, Prober] = {}
        self._gate = asyncio.Semaphore(MOST_PROBES)
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<HealthService upstreams={len(self._watched)} probing={len(self._probers)}>"

    def health(self, upstream: str, spec: UpstreamSpec) -> WatchedNodes | None:
        if spec.checks is None:
            self.forget(upstream)
            return None
        checks = compile_checks(spec.checks)
        self._asking[upstream] = _Asking(spec)
        watched = self._watched.get(upstream)
        if watched is None:
            watched = self._watched[upstream] = WatchedNodes(upstream, checks, self._verdicts)
        elif watched.checks != checks:
            watched.update(checks)
        return watched

    def forget(self, upstream: str) -> None:
        self._watched.pop(upstream, None)
        self._asking.pop(upstream, None)

    def settled(self) -> None:
        """A configuration is served, and all that it wants has been said."""
        if self._following is None and self._watched:
            self._following = self._loop.create_task(self._follow(), name="health checks")

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._stop(tuple(self._probers))

    async def _follow(self) -> None:
        seen = -1
        polls = 0
        while True:
            if polls % TEND_POLLS == 0:
                await self._tend()
            polls += 1
            version = self._rows.version()
            if version != seen:
                seen = version
                self._verdicts.refresh()
            for watched in tuple(self._watched.values()):
                watched.look()
            await asyncio.sleep(self._poll)

    async def _tend(self) -> None:
        watched = dict(self._watched)
        leads = self._rows.leads()
        wanted = watched if leads else {}
        await self._stop([name for name in self._probers if name not in wanted])
        if leads:
            self._rows.keep({key: row for nodes in watched.values() for key, row in nodes.rows().items()})
        for name, nodes in wanted.items():
            if name not in self._probers:
                self._probers[name] = Prober(nodes, self._check, self._gate)

    async def _stop(self, names: list[str] | tuple[str, ...]) -> None:
        for name in names:
            await self._probers.pop(name).stop()

    async def _check(self, watched: WatchedNodes, node: Node) -> Finding:
        asking = self._asking.get(watched.name)
        probing = watched.checks.probing
        if asking is None:
            return Finding(-1)

        async def context() -> ssl.SSLContext:
            return await self._contexts.get(asking.tls)

        address, port = node.address or node.host, probing.port or node.port
        return await probe(probing, address, port, asking.host(watched, node), context)
