"""The nodes of one upstream as its checks see them: what its balancer asks, and what requests report.

The law: a worker decides by its own copy of the rows; a report that can change nothing by that copy touches no row. Whoever
moves a node from one side to the other says so in one log line, so a host says it once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import structlog

from data_plane.health.checks import Asking, Checks, Rules
from data_plane.health.machine import Counter, Health, Target
from data_plane.health.probe import Finding
from data_plane.health.rows import Place, Rows, decode, encode, key_of

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node

log = structlog.get_logger("upstream")

_HEALTHY = Target()


class Verdicts:
    """This worker's copy of the rows."""

    __slots__ = ("rows", "targets")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.targets: dict[bytes, Target] = {}

    def health(self, key: bytes) -> Health:
        return self.targets.get(key, _HEALTHY).health

    def count(self, key: bytes, kind: str, counter: Counter, limit: int) -> tuple[Target, Target] | None:
        """Before and after; None when the rows could not be changed."""
        before = _HEALTHY

        def judge(row: bytes | None) -> tuple[bytes, bool]:
            nonlocal before
            before, _ = decode(row)
            after = before.after(counter, limit)
            if after is before and row is not None:
                return row, False
            return encode(after, kind), after.health is not before.health or row is None

        found = self.rows.change(key, judge)
        if found is None:
            return None
        after, _ = decode(found)
        self.targets[key] = after
        return before, after

    def refresh(self) -> None:
        self.targets = {key: decode(row)[0] for key, row in self.rows.read().items()}


class WatchedNodes:
    """The NodeHealth of an upstream, over all of its versions. Its nodes are those that its newest balancer asked about."""

    __slots__ = ("_changed", "_down", "_keys", "_verdicts", "asking", "checks", "name")

    def __init__(self, name: str, checks: Checks, asking: Asking, verdicts: Verdicts) -> None:
        self.name = name
        self._verdicts = verdicts
        self._changed: Callable[[], None] | None = None
        self._keys: Mapping[Node, bytes] = {}
        self._down: frozenset[Node] = frozenset()
        self.checks = checks
        self.asking = asking

    def __repr__(self) -> str:
        return f"<WatchedNodes {self.name} nodes={len(self._keys)} down={len(self._down)}>"

    def update(self, checks: Checks, asking: Asking) -> None:
        """A new version of the upstream has other checks."""
        self.checks, self.asking = checks, asking
        self._keys = self._keys_of(tuple(self._keys))

    # What the balancer asks.

    @property
    def reports(self) -> bool:
        return self.checks.passive is not None

    def unhealthy(self, nodes: tuple[Node, ...]) -> Collection[Node]:
        keys = self._keys = self._keys_of(nodes)
        down = self._find_down(keys)
        if len(down) == len(keys) > 0 and down != self._down:
            log.warning("all nodes of an upstream are unhealthy, all of them take traffic", upstream=self.name)
        self._down = down
        return down

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def report(self, node: Node, outcome: int) -> None:
        rules = self.checks.passive
        if rules is not None:
            self._judge(node, rules, outcome, "passive")

    # What probes report.

    def probed(self, node: Node, finding: Finding) -> None:
        self._judge(node, self.checks.active, finding.outcome, "active", finding.reason)

    def nodes(self, *, healthy: bool) -> list[Node]:
        """Those that take traffic, or those that should not."""
        return [node for node, key in self._keys.items() if self._verdicts.health(key).takes_traffic is healthy]

    def rows(self) -> dict[bytes, bytes]:
        """Those that must be there, as they begin."""
        return dict.fromkeys(self._keys.values(), encode(_HEALTHY, self.checks.probing.type))

    @property
    def keys(self) -> object:
        """Another object when other rows must be there."""
        return self._keys

    def look(self) -> None:
        """The copy of the rows may have changed."""
        if self._changed is not None and self._find_down(self._keys) != self._down:
            self._changed()

    def _keys_of(self, nodes: tuple[Node, ...]) -> dict[Node, bytes]:
        return {node: key_of(self._place(node)) for node in nodes}

    def _place(self, node: Node) -> Place:
        probing = self.checks.probing
        address = node.address or node.host
        return Place(self.name, address, probing.port or node.port, probing.host or address)

    def _find_down(self, keys: Mapping[Node, bytes]) -> frozenset[Node]:
        return frozenset(node for node, key in keys.items() if not self._verdicts.health(key).takes_traffic)

    def _judge(self, node: Node, rules: Rules, outcome: int, check: str, reason: str = "") -> None:
        key = self._keys.get(node)
        judged = rules.judge(outcome)
        # A node that has left since, or an outcome that means nothing.
        if key is None or judged is None:
            return
        counter, limit = judged
        verdict = Health.HEALTHY if counter is Counter.SUCCESS else Health.UNHEALTHY
        if self._verdicts.health(key) is verdict:
            return
        found = self._verdicts.count(key, self.checks.probing.type, counter, limit)
        if found is None:
            return
        before, after = found
        if before.health.takes_traffic != after.health.takes_traffic:
            self._say(node, after, counter, check, reason)
        self.look()

    def _say(self, node: Node, after: Target, counter: Counter, check: str, reason: str) -> None:
        facts: dict[str, object] = {"upstream": self.name, "node": f"{node.host}:{node.port}", "check": check}
        if node.address:
            facts["address"] = node.address
        if after.health.takes_traffic:
            log.info("upstream node is healthy again", **facts)
            return
        facts["counter"], facts["count"] = counter.name.lower(), after.counts[counter]
        if reason:
            facts["reason"] = reason
        log.warning("upstream node is unhealthy", **facts)
