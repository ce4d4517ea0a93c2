"""What a worker remembers of one node while it balances by load, and what becomes of it with every attempt.

The law: a load belongs to a node, not to a version of its upstream: it lives on as long as some version has the node, and an
attempt that outlives its version ends where it began. Seconds are those of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TYPE_CHECKING, Protocol

from data_plane.balance.health import TCP_FAILURE, TIMEOUT

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node

# As in APISIX: what happened ten seconds ago counts a third.
DECAY_SECONDS = 10.0
# What a failed attempt costs at least: one that is refused at once must not look fast.
FAILURE_SECONDS = 10.0
# What each failure of the table of replies means to health checks; the others are the fault of no node.
OUTCOMES = {
    "upstream_connect_failed": TCP_FAILURE,
    "upstream_closed": TCP_FAILURE,
    "upstream_connect_timeout": TIMEOUT,
    "upstream_read_timeout": TIMEOUT,
    "upstream_send_timeout": TIMEOUT,
}


class Load:
    """`seconds` is the peak-sensitive moving average of the time to a response's head: a slower answer counts at once in full,
    a faster one only as far as time has passed. Without an answer yet it is 0 as of `at`, which is then None.
    """

    __slots__ = ("at", "in_flight", "seconds")

    def __init__(self) -> None:
        self.in_flight = 0
        self.seconds = 0.0
        self.at: float | None = None

    def __repr__(self) -> str:
        return f"<Load in_flight={self.in_flight} seconds={self.seconds:.6f}>"

    def observe(self, seconds: float, now: float) -> None:
        if self.at is None or seconds >= self.seconds:
            self.seconds = seconds
        else:
            kept = exp(-max(0.0, now - self.at) / DECAY_SECONDS)
            self.seconds = self.seconds * kept + seconds * (1 - kept)
        self.at = now

    def decayed(self, now: float) -> float:
        return 0.0 if self.at is None else self.seconds * exp(-max(0.0, now - self.at) / DECAY_SECONDS)


class Reported(Protocol):
    def report(self, node: Node, outcome: int) -> None: ...


class Try:
    """One attempt at a node, from the picking of it to the end of its connection's work. Every end but the first is ignored."""

    __slots__ = ("_answered", "_began", "_clock", "_load", "_node", "_over", "_reported")

    def __init__(self, node: Node, load: Load, clock: Callable[[], float], reported: Reported | None) -> None:
        self._node = node
        self._load = load
        self._clock = clock
        self._reported = reported
        self._answered = False
        self._over = False
        self._began = clock()
        load.in_flight += 1

    def answered(self, status: int) -> None:
        """The final response's head is here; `status` 0: a connection, of which nothing else can be told."""
        self._answered = True
        now = self._clock()
        self._load.observe(now - self._began, now)
        if status and self._reported is not None:
            self._reported.report(self._node, status)

    def failed(self, kind: str) -> None:
        """`kind` is a key of exchange/replies.py."""
        is_late = self._over or self._answered
        self.end()
        if is_late:
            return
        now = self._clock()
        self._load.observe(max(now - self._began, FAILURE_SECONDS), now)
        outcome = OUTCOMES.get(kind)
        if outcome is not None and self._reported is not None:
            self._reported.report(self._node, outcome)

    def end(self) -> None:
        if not self._over:
            self._over = True
            self._load.in_flight -= 1
