"""One deadline per connection that costs nothing to move.

The law: a request moves `when` and touches no timer. The timer that was set for an earlier deadline fires, sees that it has
moved, and sets itself again; only a deadline nearer than the timer's own sets a new one. So a busy connection sets one timer
per timeout, not one per request, and a deadline is never missed.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

NEVER = float("inf")


class Deadline:
    """Calls `expire` once when the loop's time reaches `when`; after that, `set` arms it anew."""

    __slots__ = ("_expire", "_handle", "_loop", "armed", "when")

    def __init__(self, loop: AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._handle: TimerHandle | None = None
        # When the timer goes off that is set in the loop.
        self.armed = NEVER
        self.when = NEVER

    def set(self, seconds: float) -> None:
        """Expire so many seconds from now."""
        when = self._loop.time() + seconds
        self.when = when
        if when < self.armed:
            self.arm(when)

    def arm(self, when: float) -> None:
        """Have the loop call at this time, which is `when`, and sooner than it would have."""
        if self._handle is not None:
            self._handle.cancel()
        self.armed = when
        self._handle = self._loop.call_at(when, self._fire)

    def clear(self) -> None:
        self.when = NEVER

    def close(self) -> None:
        """For good: lets go of the timer and of the connection that it holds."""
        self.when = NEVER
        self._expire = _nothing
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self.armed = NEVER
        self._handle = None
        when = self.when
        if when == NEVER:
            return
        if when > self._loop.time():
            self.armed = when
            self._handle = self._loop.call_at(when, self._fire)
            return
        self.when = NEVER
        self._expire()


def _nothing() -> None:
    return None
