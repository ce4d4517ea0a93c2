"""The probes of one upstream, again and again: nodes that take traffic at one interval, those that should not at another.

The law: a round begins when its interval is over and the one before it has ended. Of one upstream as many probes are under way
at once as it allows, of all upstreams as many as `gate` lets through. What a round asks of the upstream is as of its newest
version.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from data_plane.health.probe import Finding

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from data_plane.health.watched import WatchedNodes

# Upstreams that begin together are spread over this much of their interval.
SPREAD = 0.1
# Probes of a worker at once: each is a socket.
MOST_PROBES = 256

Check = Callable[["WatchedNodes", "Node"], Awaitable[Finding]]


class Prober:
    """`check` probes one node; the tasks live until `stop`."""

    def __init__(self, watched: WatchedNodes, check: Check, gate: asyncio.Semaphore) -> None:
        self.watched = watched
        self._check = check
        self._gate = gate
        self._tasks = [asyncio.create_task(self._run(healthy), name=f"probes of {watched.name}") for healthy in (True, False)]

    def failure(self) -> BaseException | None:
        """What has ended the probes, though nobody stopped them."""
        return next((task.exception() for task in self._tasks if task.done() and not task.cancelled()), None)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, healthy: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time() - self._interval(healthy) * (1 - random.uniform(0, SPREAD))
        while True:
            await asyncio.sleep(max(0.0, began + self._interval(healthy) - loop.time()))
            began = loop.time()
            await self._round(healthy)

    def _interval(self, healthy: bool) -> float:
        probing = self.watched.checks.probing
        return probing.healthy_interval if healthy else probing.unhealthy_interval

    async def _round(self, healthy: bool) -> None:
        nodes = self.watched.nodes(healthy=healthy)
        if not nodes:
            return
        own_gate = asyncio.Semaphore(self.watched.checks.probing.concurrency)
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(self._one(node, own_gate))

    async def _one(self, node: Node, own_gate: asyncio.Semaphore) -> None:
        async with own_gate, self._gate:
            finding = await self._check(self.watched, node)
        self.watched.probed(node, finding)
