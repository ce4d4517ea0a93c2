"""The balancer of one version of an upstream: which node an attempt goes to.

The law: a node of lower priority is chosen only when those above it are down or were tried. Whoever watches the nodes says when
they changed, and the levels are arranged anew; all of them down means that all take traffic. What is known of a node (its load)
and whose turn it is pass from one version to the next for the nodes that stay.

Round robin without anything to watch picks at once: `pick` is then the algorithm's own, and a request has nothing else to do
with this class. In all other cases `pick` is always None, and `choose` and `begin` have their say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from data_plane.balance.algorithms import Algorithm, Place, RoundRobin, maker, place
from data_plane.balance.hash_key import HashKey
from data_plane.balance.load import Load, Try
from data_plane.balance.round_robin import SmoothRoundRobin

if TYPE_CHECKING:
    from data_plane.balance.health import NodeAddresses, NodeHealth
    from data_plane.config.snapshot import Node, Peer
    from shared.schema.balancing import BalancerType

# Those that have to know how attempts go.
MEASURING: frozenset[BalancerType] = frozenset({"least_conn", "ewma"})


@dataclass(frozen=True, slots=True, eq=False)
class Balancing:
    """What a version of an upstream says of it. `deadline`: attempts are limited in time, so their beginning counts."""

    type: BalancerType = "roundrobin"
    key: HashKey | None = None
    deadline: bool = False


class Balancer:
    """A `Picker`. `before` is the balancer of the version before this one."""

    __slots__ = (
        "_addresses",
        "_arranged",
        "_configured",
        "_health",
        "_key",
        "_levels",
        "_loads",
        "_make",
        "_picked",
        "_reported",
        "_watched",
        "at_once",
        "clock",
        "nodes",
        "pick",
    )

    def __init__(
        self,
        nodes: tuple[Node, ...],
        clock: Callable[[], float],
        balancing: Balancing | None = None,
        health: NodeHealth | None = None,
        addresses: NodeAddresses | None = None,
        before: Balancer | None = None,
        random: Random | None = None,
    ) -> None:
        balancing = balancing or Balancing()
        self.clock = clock
        self._configured = nodes
        self._key = balancing.key
        self._health = health
        self._addresses = addresses
        self._reported = health if health is not None and health.reports else None
        self._watched = balancing.type in MEASURING or self._reported is not None
        self.at_once = balancing.type == "roundrobin" and not self._watched and not balancing.deadline
        self._loads: dict[Place, Load] = {}
        self._make = maker(balancing.type, self._load, clock, random or Random())
        self._levels: dict[int, Algorithm] = {}
        self.nodes: tuple[Node, ...] = ()
        self._arranged: tuple[Algorithm, ...] = ()
        self.pick: Callable[[], Node | None] = nothing_at_once
        self._picked: SmoothRoundRobin[Node] | None = None
        if before is not None:
            self._loads = dict(before._loads)
            self._levels = dict(before._levels)
        self.arrange()
        for watcher in (health, addresses):
            if watcher is not None:
                watcher.watch(self.arrange)

    def __repr__(self) -> str:
        return f"<Balancer nodes={len(self.nodes)} levels={len(self._arranged)} at_once={self.at_once}>"

    def arrange(self) -> None:
        """The nodes have changed, or who of them is healthy."""
        found = self._configured if self._addresses is None else self._addresses.resolved(self._configured)
        nodes = self.nodes = tuple(node for node in found if node.weight > 0)
        places = {place(node) for node in nodes}
        self._loads = {known: load for known, load in self._loads.items() if known in places}
        down: Collection[Node] = () if self._health is None else frozenset(self._health.unhealthy(nodes))
        if all(node in down for node in nodes):
            down = ()
        levels: dict[int, Algorithm] = {}
        for priority in sorted({node.priority for node in nodes}, reverse=True):
            made = self._make([node for node in nodes if node.priority == priority], down, self._levels.get(priority))
            if made is not None:
                levels[priority] = made
        self._levels = levels
        self._arranged = tuple(levels.values())
        if self.at_once:
            self._pick_from(self._arranged[0] if self._arranged else None)

    def choose(self, key: bytes, tried: Collection[Node]) -> Node | None:
        for level in self._arranged:
            node = level.choose(key, tried)
            if node is not None:
                return node
        return None

    def key(self, head: bytes, peer: Peer | None) -> bytes:
        return b"" if self._key is None else self._key(head, peer)

    def begin(self, node: Node) -> Try | None:
        return Try(node, self._load(node), self.clock, self._reported) if self._watched else None

    def _load(self, node: Node) -> Load:
        return self._loads.setdefault(place(node), Load())

    def _pick_from(self, level: Algorithm | None) -> None:
        """Round robin's own `pick`, and the faster one that takes its place once it knows its period."""
        if self._picked is not None:
            self._picked.remembered = None
        if not isinstance(level, RoundRobin):
            self._picked, self.pick = None, nothing_at_once
            return
        turns = self._picked = level.turns
        self.pick = turns.pick
        turns.remembered = self._use_pick

    def _use_pick(self, pick: Callable[[], Node | None]) -> None:
        self.pick = pick


def nothing_at_once() -> Node | None:
    return None
