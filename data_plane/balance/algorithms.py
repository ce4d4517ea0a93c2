"""The table from an upstream's `type` to what picks among the nodes of one priority.

The law: an algorithm is made anew when its nodes change, and takes over what the one before it knew: the turn of round robin
goes on where it was, a ring of the same nodes stays, and loads are the balancer's, not the algorithm's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import TYPE_CHECKING, Protocol

from data_plane.balance.chash import ConsistentHash, Ring
from data_plane.balance.ewma import Ewma
from data_plane.balance.least_conn import LeastConn
from data_plane.balance.round_robin import SmoothRoundRobin
from data_plane.config.snapshot import PICKS

if TYPE_CHECKING:
    from data_plane.balance.load import Load
    from data_plane.config.snapshot import Node
    from shared.schema.balancing import BalancerType


# What a node is from one version to the next: host, port, address.
Place = tuple[str, int, str]


def place(node: Node) -> Place:
    return node.host, node.port, node.address


class Algorithm(Protocol):
    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        """None when every node that takes traffic was tried."""


class RoundRobin:
    """An `Algorithm`; `turns` is what a plain upstream asks without it."""

    __slots__ = ("_nodes", "turns")

    def __init__(self, nodes: Sequence[Node], before: RoundRobin | None = None) -> None:
        self._nodes = tuple(nodes)
        self.turns = SmoothRoundRobin(self._nodes)
        due = None if before is None else before.first_of({place(node) for node in self._nodes})
        if due is not None:
            self.turns.go_on_at(lambda node: place(node) == due)

    def first_of(self, places: Collection[Place]) -> Place | None:
        """Whose turn it is among those at these places."""
        for _ in range(PICKS):
            node = self.turns.pick()
            if node is not None and place(node) in places:
                return place(node)
        return None

    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        for _ in range(PICKS):
            node = self.turns.pick()
            if node is None or node not in tried:
                return node
        return next((node for node in self._nodes if node not in tried), None)


# Nodes of one priority that have weight, those of them that are down, and the algorithm that was there before.
Make = Callable[[Sequence["Node"], Collection["Node"], Algorithm | None], Algorithm | None]


def maker(type: BalancerType, load: Callable[[Node], Load], clock: Callable[[], float], random: Random) -> Make:
    """None from it: no node of this priority takes traffic."""

    def loaded(nodes: Sequence[Node], down: Collection[Node]) -> list[tuple[Node, Load]]:
        return [(node, load(node)) for node in nodes if node not in down]

    def round_robin(nodes: Sequence[Node], down: Collection[Node], before: Algorithm | None) -> Algorithm | None:
        left = [node for node in nodes if node not in down]
        return RoundRobin(left, before if isinstance(before, RoundRobin) else None) if left else None

    def chash(nodes: Sequence[Node], down: Collection[Node], before: Algorithm | None) -> Algorithm | None:
        kept = before.ring if isinstance(before, ConsistentHash) and before.ring.nodes == tuple(nodes) else None
        return ConsistentHash(kept or Ring(nodes), down)

    def least_conn(nodes: Sequence[Node], down: Collection[Node], before: Algorithm | None) -> Algorithm | None:
        left = loaded(nodes, down)
        return LeastConn(left) if left else None

    def ewma(nodes: Sequence[Node], down: Collection[Node], before: Algorithm | None) -> Algorithm | None:
        left = loaded(nodes, down)
        return Ewma(left, clock, random) if left else None

    makers: dict[BalancerType, Make] = {
        "roundrobin": round_robin,
        "chash": chash,
        "least_conn": least_conn,
        "ewma": ewma,
    }
    return makers[type]
