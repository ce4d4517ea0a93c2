"""Consistent hashing: one key goes to one node for as long as that node takes traffic, whoever else comes and goes.

The law: every node owns points on a ring, so many for each unit of its weight, whose places depend on its address alone; a key
belongs to the owner of the first point behind it. A node that is down or was tried is walked past, its points stay: only its
own keys move, and they move back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Container, Sequence
from hashlib import blake2b, shake_128
from math import gcd
from struct import Struct, unpack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node

# As ketama and APISIX have it.
POINTS_PER_WEIGHT = 160
# Of one ring: 4 ms to build, and a worker stands still meanwhile. Upstreams of more than a hundred nodes get fewer points for
# each weight: the shares of a thousand differ by a quarter from what the weights say, those of a hundred by 8 %.
MOST_POINTS = 1 << 14

# A point is a place of 32 bits, and below it the index of its owner, of which an upstream may have fewer than 2**20. That is 52
# bits, as many as a float keeps, and floats are sorted twice as fast as integers of this size.
_OWNERS = 1 << 20

_KEY_PLACE = Struct(">I")


class Ring:
    """`nodes` have weights above 0."""

    __slots__ = ("_points", "nodes")

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        divisor = gcd(*(node.weight for node in nodes)) or 1
        total = sum(node.weight // divisor for node in nodes)
        each = min(float(POINTS_PER_WEIGHT), MOST_POINTS / max(1, total))
        points: list[float] = []
        for index, node in enumerate(nodes):
            count = max(1, round(node.weight // divisor * each))
            points += [place * float(_OWNERS) + index for place in _places(node, count)]
        points.sort()
        self._points = points

    def choose(self, key: bytes, passed: Container[Node]) -> Node | None:
        """The first owner behind the key that is not among those to pass by."""
        points, nodes = self._points, self.nodes
        size = len(points)
        if not size:
            return None
        (place,) = _KEY_PLACE.unpack(blake2b(key, digest_size=4).digest())
        start = bisect_left(points, place * float(_OWNERS))
        known: Node | None = None
        for number in range(start, start + size):
            node = nodes[int(points[number % size]) % _OWNERS]
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


def _places(node: Node, count: int) -> tuple[int, ...]:
    """As many as are wanted, from one hash of any length."""
    name = f"{node.address or node.host}|{node.port}|".encode()
    return unpack(f">{count}I", shake_128(name).digest(4 * count))
