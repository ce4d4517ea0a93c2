"""What this worker offers to its native plugins (shared/plugin/host.py).

The law: it lives as long as the worker; the parts that do the work are its owner's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from shared.plugin.consumer import ConsumerTable
from shared.plugin.counters import Counters
from shared.plugin.host import Fetched
from shared.plugin.metrics import Metrics
from shared.plugin.responses import Zone


class Fetch(Protocol):
    """As `Host.fetch`."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        seconds: float = 60.0,
        verify: bool = True,
        max_body: int = 1024 * 1024,
    ) -> Fetched: ...


class WorkerHost:
    """`consumers` has the table of a plugin, `find_upstream` answers as of now; `failed` is for the log, `counters` has them
    ready."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        consumers: Callable[[str], ConsumerTable],
        find_upstream: Callable[[str], object | None],
        failed: Callable[[str, BaseException], None],
        counters: Callable[[], Counters],
        fetch: Fetch,
        zone: Callable[[str, str], Zone],
        metrics: Metrics,
    ) -> None:
        self._loop = loop
        self.consumers = consumers
        self.upstream = find_upstream
        self.failed = failed
        self.fetch = fetch
        self.zone = zone
        self.metrics = metrics
        self._counters = counters
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def counters(self) -> Counters:
        return self._counters()

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name(), error)

    async def close(self) -> None:
        """The worker ends: what runs beside requests is told, and waited for."""
        # A task that has not begun would never learn of its end.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
