"""What the balancer hears about the nodes of an upstream, and what it tells: the seam to health checks and to DNS.

The law: while it picks, the balancer asks nobody. Whoever watches the nodes calls when something has changed, and the balancer
arranges its nodes anew; so a pick costs the same with checks and without. Everything here belongs to one worker and its loop.

A watcher belongs to an upstream by its name (`upstream/ID`, `route/ID`, ...) and lives on over all versions of it; the newest
version's balancer is the one that watches. When all nodes are unhealthy, all take traffic, as in APISIX.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from shared.schema.upstream import UpstreamSpec

# How an attempt went, where it did not end with the status of a response (100 to 599).
TCP_FAILURE: Final = 1
TIMEOUT: Final = 2


class NodeHealth(Protocol):
    """The health of one upstream's nodes, as this worker knows it."""

    @property
    def reports(self) -> bool:
        """Whether `report` is wanted: passive checks. Asked once for each version of the upstream."""

    def unhealthy(self, nodes: tuple[Node, ...]) -> Collection[Node]:
        """Those of them that should take no traffic now."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each change of `unhealthy`; it takes the place of the one given before."""

    def report(self, node: Node, outcome: int) -> None:
        """An attempt at a node has brought a response's head (its status), TCP_FAILURE or TIMEOUT."""


class NodeAddresses(Protocol):
    """The addresses behind the names of one upstream's nodes."""

    def resolved(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        """The nodes to balance over, as known now: for a name one node for each `address`, of which each has the weight
        of the name. A name that is not known (yet) may be left as it is: then connecting to it looks it up."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after each change of `resolved`; it takes the place of the one given before."""


class Watchers(Protocol):
    """Gives each upstream who watches its nodes, when it is compiled. Asked again for each version."""

    def health(self, upstream: str, spec: UpstreamSpec) -> NodeHealth | None:
        """None when the upstream asks for no checks."""

    def addresses(self, upstream: str, nodes: tuple[Node, ...]) -> NodeAddresses | None:
        """None when no node has a name to resolve."""

    def forget(self, upstream: str) -> None:
        """There is no such upstream any more."""


class Unwatched:
    """`Watchers` of a worker that checks nothing and resolves names as it connects."""

    def health(self, upstream: str, spec: UpstreamSpec) -> NodeHealth | None:
        return None

    def addresses(self, upstream: str, nodes: tuple[Node, ...]) -> NodeAddresses | None:
        return None

    def forget(self, upstream: str) -> None:
        return None
