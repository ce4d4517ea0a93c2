"""The node with the least to do: the smallest (requests in flight + 1) / weight, as in APISIX.

The law: of equal nodes the one whose turn was longest ago goes first, so that an idle upstream is used evenly. Nodes are looked
through one by one, 60 ns each: cheaper than a heap up to some hundred nodes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.balance.load import Load
    from data_plane.config.snapshot import Node


class LeastConn:
    """An `Algorithm` over nodes with weights above 0."""

    __slots__ = ("_nodes",)

    def __init__(self, nodes: Sequence[tuple[Node, Load]]) -> None:
        # The order of turns: whoever was picked goes to the end.
        self._nodes = list(nodes)

    def choose(self, key: bytes, tried: Container[Node]) -> Node | None:
        best = -1
        least = 0.0
        for index, (node, load) in enumerate(self._nodes):
            score = (load.in_flight + 1) / node.weight
            if (best < 0 or score < least) and node not in tried:
                best, least = index, score
        if best < 0:
            return None
        chosen = self._nodes.pop(best)
        self._nodes.append(chosen)
        return chosen[0]
