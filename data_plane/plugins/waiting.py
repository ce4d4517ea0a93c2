"""Native plugins that must wait: the only place where a request becomes a task.

The law: what was asked for is told once, unless the waiting was ended first; a request that ends ends its waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING

from data_plane.plugins.interface import Told
from shared.plugin.reply import Reply
from shared.unavailable import Unavailable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# The log hears so often of what a plugin cannot do without.
TELL_SECONDS = 1.0


class NativeHost:
    """Base of the runtime: what native plugins need of it."""

    logger: FilteringBoundLogger

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting_in = loop
        # The loop itself keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[Reply | None]] = set()
        self._told_at: dict[str, float] = {}

    def wait(self, answer: Awaitable[Reply | None], told: Told) -> Callable[[], None]:
        task = self._waiting_in.create_task(_awaited(answer), name="native-plugin")
        self._tasks.add(task)

        def done(ended: asyncio.Task[Reply | None]) -> None:
            self._tasks.discard(ended)
            if ended.cancelled():
                # It may not have begun.
                if isinstance(answer, Coroutine):
                    answer.close()
            else:
                error = ended.exception()
                told(None if error else ended.result(), error)

        task.add_done_callback(done)
        return partial(_end, task)

    def native_failed(self, plugin: str, error: BaseException) -> None:
        if isinstance(error, Unavailable):
            self._unavailable(plugin, str(error))
        else:
            self.logger.error("native plugin failed", plugin=plugin, reason=repr(error), exc_info=error)

    def _unavailable(self, plugin: str, reason: str) -> None:
        """Perhaps for every request."""
        now = self._waiting_in.time()
        if now >= self._told_at.get(plugin, 0.0) + TELL_SECONDS:
            self._told_at[plugin] = now
            self.logger.error("native plugin failed", plugin=plugin, reason=reason)

    def stop_waiting(self) -> None:
        for task in list(self._tasks):
            task.cancel()


def _end(task: asyncio.Task[Reply | None]) -> None:
    task.cancel()


async def _awaited(answer: Awaitable[Reply | None]) -> Reply | None:
    return await answer
