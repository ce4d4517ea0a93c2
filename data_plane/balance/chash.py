"""Consistent hashing: one key goes to one node for as long as that node takes traffic, whoever else comes and goes.

The law: every node owns points on a ring, so many for each unit of its weight, whose places depend on its address alone; a key
belongs to the owner of the first point behind it. A node that is down or was tried is walked past, its points stay: only its
own keys move, and they move back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Container, Sequence
from hashlib import blake2b
from math import gcd
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node

# As ketama and APISIX have it.
POINTS_PER_WEIGHT = 160
# Of one ring: 10 ms to build, and a deviation of 5 % with a hundred nodes. Larger upstreams get fewer points for each weight.
MOST_POINTS = 1 << 15

_DIGEST_POINTS = Struct(">8Q")
_KEY_POINT = Struct(">Q")


class Ring:
    """`nodes` have weights above 0."""

    __slots__ = ("_owners", "_points", "nodes")

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        divisor = gcd(*(node.weight for node in nodes)) or 1
        total = sum(node.weight // divisor for node in nodes)
        each = min(float(POINTS_PER_WEIGHT), MOST_POINTS / max(1, total))
        # Ties, one in 2**34 rings of full size, go to the smaller index: the same on every worker.
        ring = [
            (point, index)
            for index, node in enumerate(nodes)
            for point in _points(node, max(1, round(node.weight // divisor * each)))
        ]
        ring.sort()
        self._points = [point for point, _ in ring]
        self._owners = [self.nodes[index] for _, index in ring]

    def choose(self, key: bytes, passed: Container[Node]) -> Node | None:
        """The first owner behind the key that is not among those to pass by."""
        owners = self._owners
        size = len(owners)
        if not size:
            return None
        (point,) = _KEY_POINT.unpack(blake2b(key, digest_size=8).digest())
        start = bisect_right(self._points, point)
        known: Node | None = None
        for place in range(start, start + size):
            node = owners[place % size]
            if node is not known:
                if node not in passed:
                    return node
                known = node
        return None


class ConsistentHash:
    """An `Algorithm`: a ring, and the nodes of it that are down."""

    __slots__ = ("_down", "ring")

    def __init__(self, ring: Ring, down: Collection[Node]) -> None:
        self.ring = ring
        self._down = frozenset(down)

    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        passed: Container[Node] = self._down
        if tried:
            passed = self._down.union(tried)
        return self.ring.choose(key, passed)


def _points(node: Node, count: int) -> list[int]:
    """Eight of each digest."""
    name = f"{node.address or node.host}|{node.port}|".encode()
    points: list[int] = []
    for number in range(-(-count // 8)):
        points += _DIGEST_POINTS.unpack(blake2b(name + b"%d" % number, digest_size=64).digest())
    return points[:count]
