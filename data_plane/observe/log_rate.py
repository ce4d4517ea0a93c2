"""Log lines of one kind, so many a second; what is dropped is counted, and said once a second.

The law: the lines of a second that are let through are its first ones, in order. A line that passes costs two comparisons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LogRate:
    """`tell` gets the number of lines that were dropped within a second, when the second is over."""

    __slots__ = ("_count", "_dropped", "_limit", "_loop", "_since", "_tell")

    def __init__(self, per_second: int, loop: asyncio.AbstractEventLoop, tell: Callable[[int], None]) -> None:
        self._limit = per_second
        self._loop = loop
        self._tell = tell
        self._since = 0.0
        self._count = 0
        self._dropped = 0

    def admits(self) -> bool:
        now = self._loop.time()
        if now - self._since >= 1.0:
            self._since = now
            self._count = 0
        self._count += 1
        if self._count <= self._limit:
            return True
        if not self._dropped:
            self._loop.call_later(max(self._since + 1.0 - now, 0.0), self._second_is_over)
        self._dropped += 1
        return False

    def _second_is_over(self) -> None:
        dropped, self._dropped = self._dropped, 0
        self._tell(dropped)
