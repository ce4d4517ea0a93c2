"""Smooth weighted round robin.

The law: over any period of as many picks as the weights sum to (divided by their greatest common divisor), every node
is picked exactly as often as its weight says, and the picks of a heavy node are spread over the period instead of
bunched. Each pick adds every node's weight to its credit, takes the node with the most credit (the first of equals) and
charges it the sum. A node of weight 0 is never picked.

The first period is remembered as it is computed, so that from then on a pick is a list index whatever the number of
nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    @property
    def weight(self) -> int: ...


N = TypeVar("N", bound=Weighted)

# 64 KiB of references at most per upstream and worker. Longer periods (weights 9973 and 10007) are computed each time.
LONGEST_REMEMBERED_PERIOD = 8192


class SmoothRoundRobin(Generic[N]):
    """A `Picker`; its counters are the worker's own."""

    __slots__ = ("_credits", "_next", "_nodes", "_period", "_total", "_weights")

    def __init__(self, nodes: Iterable[N]) -> None:
        self._nodes = [node for node in nodes if node.weight > 0]
        divisor = gcd(*(node.weight for node in self._nodes)) or 1
        self._weights = [node.weight // divisor for node in self._nodes]
        self._credits = [0] * len(self._nodes)
        self._total = sum(self._weights)
        self._next = 0
        self._period: list[N] = []

    def pick(self) -> N | None:
        """The next node, or None when there is no node with a weight above 0."""
        index = self._next if self._next < self._total else 0
        self._next = index + 1
        if index < len(self._period):
            return self._period[index]
        if not self._nodes:
            return None
        node = self._step()
        if self._total <= LONGEST_REMEMBERED_PERIOD:
            self._period.append(node)
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
