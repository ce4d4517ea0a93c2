"""The node with the least to do: the smallest (requests in flight + 1) / weight, as in APISIX.

The law: of equal nodes the one whose turn was longest ago goes first, so that an idle upstream is used evenly. Of a large
upstream each choice looks at the next `LOOKED_AT` nodes of the round, so that what it costs is bounded.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.balance.load import Load
    from data_plane.config.snapshot import Node


LOOKED_AT = 64


class LeastConn:
    """An `Algorithm` over nodes with weights above 0."""

    __slots__ = ("_nodes",)

    def __init__(self, nodes: Sequence[tuple[Node, Load]]) -> None:
        # The order of turns: whoever was picked goes to the end.
        self._nodes = list(nodes)

    def choose(self, key: bytes, tried: Container[Node]) -> Node | None:
        found = self._choose_among(self._nodes[:LOOKED_AT], tried)
        if found < 0 and len(self._nodes) > LOOKED_AT:
            found = self._choose_among(self._nodes, tried)
        if found < 0:
            return None
        chosen = self._nodes.pop(found)
        self._nodes.append(chosen)
        if len(self._nodes) > LOOKED_AT:
            # The others come again when all have had their look.
            self._nodes = self._nodes[LOOKED_AT - 1 :] + self._nodes[: LOOKED_AT - 1]
        return chosen[0]

    def _choose_among(self, nodes: Sequence[tuple[Node, Load]], tried: Container[Node]) -> int:
        """The index, or -1."""
        best = -1
        least = 0.0
        for index, (node, load) in enumerate(nodes):
            score = (load.in_flight + 1) / node.weight
            if (best < 0 or score < least) and node not in tried:
                best, least = index, score
        return best
