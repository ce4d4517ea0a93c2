"""Smooth weighted round robin.

The law: over any period of as many picks as the weights sum to (divided by their greatest common divisor), every node
is picked exactly as often as its weight says, and the picks of a heavy node are spread over the period instead of
bunched. Each pick adds every node's weight to its credit, takes the node with the most credit (the first of equals) and
charges it the sum. A node of weight 0 is never picked.

The first period is remembered as it is computed; from then on a pick is a step of itertools.cycle, without a line of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle
from math import gcd
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    @property
    def weight(self) -> int: ...


N = TypeVar("N", bound=Weighted)

# 64 KiB of references at most per upstream and worker. Longer periods (weights 9973 and 10007) are computed each time.
LONGEST_REMEMBERED_PERIOD = 8192
# Steps made in search of the node whose turn it was.
STEPS_TO_GO_ON = 1024


class SmoothRoundRobin(Generic[N]):
    """Its counters are the worker's own. `pick()` is the next node, or None when no node has a weight above 0; `remembered`
    is told the faster `pick` that is there after the first period.
    """

    __slots__ = ("_credits", "_nodes", "_period", "_total", "_weights", "pick", "remembered")

    def __init__(self, nodes: Iterable[N]) -> None:
        self._nodes = [node for node in nodes if node.weight > 0]
        divisor = gcd(*(node.weight for node in self._nodes)) or 1
        self._weights = [node.weight // divisor for node in self._nodes]
        self._credits = [0] * len(self._nodes)
        self._total = sum(self._weights)
        self._period: list[N] = []
        self.pick: Callable[[], N | None] = self._compute
        self.remembered: Callable[[Callable[[], N | None]], None] | None = None

    def go_on_at(self, is_due: Callable[[N], bool]) -> None:
        """Begin with this node's turn, where it has one within reach. Before the first pick only."""
        beginning = list(self._credits)
        for _ in range(min(self._total, STEPS_TO_GO_ON)):
            credits = list(self._credits)
            if is_due(self._step()):
                self._credits = credits
                return
        self._credits = beginning

    def _compute(self) -> N | None:
        if not self._nodes:
            return None
        node = self._step()
        if self._total <= LONGEST_REMEMBERED_PERIOD:
            self._period.append(node)
            if len(self._period) == self._total:
                self.pick = cycle(self._period).__next__
                if self.remembered is not None:
                    self.remembered(self.pick)
        return node

    def _step(self) -> N:
        credits = self._credits
        best = 0
        for index, weight in enumerate(self._weights):
            credits[index] += weight
            if credits[index] > credits[best]:
                best = index
        credits[best] -= self._total
        return self._nodes[best]
