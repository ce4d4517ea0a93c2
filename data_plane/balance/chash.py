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
from struct import Struct, unpack_from
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node

# As ketama and APISIX have it.
POINTS_PER_WEIGHT = 160
# Of one ring: some 10 ms to build, which is what a worker may stand still. Upstreams of more than a hundred nodes get fewer
# points for each weight: the shares of a thousand differ by a quarter from what the weights say, those of a hundred by 8 %.
MOST_POINTS = 1 << 14

# More nodes than an upstream may have.
INDEX_MASK = (1 << 20) - 1

_KEY_POINT = Struct(">Q")


class Ring:
    """`nodes` have weights above 0."""

    __slots__ = ("_owners", "_points", "nodes")

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        divisor = gcd(*(node.weight for node in nodes)) or 1
        total = sum(node.weight // divisor for node in nodes)
        each = min(float(POINTS_PER_WEIGHT), MOST_POINTS / max(1, total))
        points: list[int] = []
        for index, node in enumerate(nodes):
            count = max(1, round(node.weight // divisor * each))
            # The owner's index takes the place of the lowest bits: plain integers are sorted three times as fast as pairs.
            points += [point & ~INDEX_MASK | index for point in _points(node, count)]
        points.sort()
        self._points = points
        self._owners = [self.nodes[point & INDEX_MASK] for point in points]

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
    name = blake2b(f"{node.address or node.host}|{node.port}|".encode())
    digests: list[bytes] = []
    for number in range(-(-count // 8)):
        digest = name.copy()
        digest.update(b"%d" % number)
        digests.append(digest.digest())
    return list(unpack_from(f">{count}Q", b"".join(digests)))
