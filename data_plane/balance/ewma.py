"""The faster of two nodes drawn at random, by the moving average of their answers' times and by what they have to do.

The law: a node's cost is its average, decayed since its last answer, times the requests that it would then have in flight. A
node that has not answered yet costs nothing while it is idle, so that it is tried, and everything while its first answer is
due, so that it is not flooded. Weights say only who takes part, as in APISIX.

Drawing two keeps workers that know nothing of each other from all rushing to one node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.balance.load import Load
    from data_plane.config.snapshot import Node

UNKNOWN = float("inf")


class Ewma:
    """An `Algorithm`."""

    __slots__ = ("_clock", "_nodes", "_random")

    def __init__(self, nodes: Sequence[tuple[Node, Load]], clock: Callable[[], float], random: Random) -> None:
        self._nodes = tuple(nodes)
        self._clock = clock
        self._random = random

    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        nodes = [pair for pair in self._nodes if pair[0] not in tried] if tried else self._nodes
        if len(nodes) < 2:
            return nodes[0][0] if nodes else None
        first = self._random.randrange(len(nodes))
        second = self._random.randrange(len(nodes) - 1)
        second += second >= first
        one, other = nodes[first], nodes[second]
        now = self._clock()
        return one[0] if _cost(one[1], now) <= _cost(other[1], now) else other[0]


def _cost(load: Load, now: float) -> float:
    if load.at is None:
        return UNKNOWN if load.in_flight else 0.0
    return load.decayed(now) * (load.in_flight + 1)
