"""The health checks of a worker: who watches which upstream, who of the host's workers probes, and what the others found.

The law: one worker of the host probes, the oldest that lives; all of them count what their requests show, and each acts on what
any of them found within `POLL_SECONDS`. A worker that can share nothing probes for itself. What is known of a node stays while
its upstream has it, whatever else changes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from typing import TYPE_CHECKING

import structlog

from data_plane.health.checks import asking_of, compile_checks
from data_plane.health.probe import Finding, probe
from data_plane.health.prober import MOST_PROBES, Prober
from data_plane.health.rows import LocalRows, Rows
from data_plane.health.watched import Verdicts, WatchedNodes
from data_plane.upstream_tls.contexts import ClientContexts

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from shared.schema.upstream import UpstreamSpec

log = structlog.get_logger("upstream")

# Asking for the version is one read of 1 us.
POLL_SECONDS = 0.25
# Who probes, and which rows there are, is looked at every so many polls.
TEND_POLLS = 4
KEEP_TENDS = 30
# After a mistake of ours.
AGAIN_SECONDS = 1.0


class HealthService:
    """The `health` of Watchers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rows: Rows | None,
        contexts: ClientContexts,
        *,
        checks: bool = True,
        poll: float = POLL_SECONDS,
    ) -> None:
        self._loop = loop
        self._contexts = contexts
        self._checks = checks
        self._poll = poll
        self._rows: Rows = LocalRows() if rows is None else rows
        self._verdicts = Verdicts(self._rows)
        # What the workers before this one knew.
        self._verdicts.refresh()
        self._watched: dict[str, WatchedNodes] = {}
        self._probers: dict[str, Prober] = {}
        self._gate = asyncio.Semaphore(MOST_PROBES)
        self._following: asyncio.Task[None] | None = None
        self._settled = False
        self._kept: dict[str, object] = {}
        self._unkept = KEEP_TENDS

    def __repr__(self) -> str:
        return f"<HealthService upstreams={len(self._watched)} probing={len(self._probers)}>"

    def health(self, upstream: str, spec: UpstreamSpec) -> WatchedNodes | None:
        if spec.checks is None or not self._checks:
            self.forget(upstream)
            return None
        checks, asking = compile_checks(spec.checks), asking_of(spec)
        watched = self._watched.get(upstream)
        if watched is None:
            watched = self._watched[upstream] = WatchedNodes(upstream, checks, asking, self._verdicts)
            if self._settled:
                # Compiled for a plugin that calls it.
                self._loop.call_soon(self.settled)
        elif (watched.checks, watched.asking) != (checks, asking):
            watched.update(checks, asking)
        return watched

    def forget(self, upstream: str) -> None:
        self._watched.pop(upstream, None)

    def settled(self) -> None:
        """A configuration is served, and all that it wants has been said."""
        self._settled = True
        if self._following is None and self._watched:
            self._following = self._loop.create_task(self._follow(), name="health checks")
            self._following.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """By a mistake of ours: it must not be the last of the checks."""
        if not task.cancelled():
            log.error("health checks failed", exc_info=task.exception())
            self._following = None
            self._loop.call_later(AGAIN_SECONDS, self.settled)

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
        await self._stop([name for name, prober in self._probers.items() if wanted.get(name) is not prober.watched])
        await self._stop([name for name, prober in self._probers.items() if _has_failed(prober)])
        if leads:
            self._keep(watched)
        for name, nodes in wanted.items():
            if name not in self._probers:
                self._probers[name] = Prober(nodes, self._check, self._gate)

    def _keep(self, watched: dict[str, WatchedNodes]) -> None:
        """Now and then also when nothing has changed here: a worker that still had an old configuration may have written."""
        self._unkept += 1
        wanted = {name: nodes.keys for name, nodes in watched.items()}
        same = self._kept.keys() == wanted.keys() and all(self._kept[name] is keys for name, keys in wanted.items())
        if self._unkept >= KEEP_TENDS or not same:
            self._unkept, self._kept = 0, wanted
            self._rows.keep({key: row for nodes in watched.values() for key, row in nodes.rows().items()})

    async def _stop(self, names: Collection[str]) -> None:
        await asyncio.gather(*(self._probers.pop(name).stop() for name in names))

    async def _check(self, watched: WatchedNodes, node: Node) -> Finding:
        probing, asking = watched.checks.probing, watched.asking

        async def context() -> ssl.SSLContext:
            return await self._contexts.get(asking.tls)

        return await probe(probing, node.address or node.host, probing.port or node.port, asking.host_of(node), context)


def _has_failed(prober: Prober) -> bool:
    failure = prober.failure()
    if failure is not None:
        log.error("probing an upstream failed", upstream=prober.watched.name, exc_info=failure)
    return failure is not None
