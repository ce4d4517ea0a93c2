"""Metrics that plugins define: counted in the process, written to the host's state at an interval.

The law: counting costs a dictionary look-up and an addition, since plugins do it on every request; only `flush` writes. What
a crash can lose is what was counted since the last flush. Ids are a plugin's own: one plugin cannot touch another's stats
except by their name, as in Envoy.
"""

from __future__ import annotations

from typing import Final

import lmdb

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.metric_table import (
    U64_MASK,
    MetricKind,
    add_sample,
    signed,
    stat_key,
    store,
    total_of_others,
    zeros,
)
from shared.proxy_wasm.state.workers import Worker

# A stat for each of 1000 routes and ten of a plugin's numbers; every one is a line of each page that Prometheus fetches.
STATS_PER_WORKER: Final = 10_000
NAME_BYTES: Final = 1024
# Written in one transaction: 1 ms in which other workers' shared data waits.
FLUSH_BATCH: Final = 250

# Envoy's ids: the two low bits are the kind, the first of each kind is 4 and more.
_ID_STEP: Final = 4
_KINDS: Final = {int(kind): kind for kind in MetricKind}

# Looked up once: naming a member costs as much as all the rest of an increment.
_COUNTER, _GAUGE, _HISTOGRAM = MetricKind
_OK = Status.OK


class Stat:
    """One metric as this worker counts it."""

    __slots__ = ("key", "kind", "name", "numbers")

    def __init__(self, kind: MetricKind, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.key = stat_key(kind, name)
        self.numbers = zeros(kind)


class WorkerMetrics:
    """All stats of one worker in one table, plugins' unless it is named. `changed` is the one set of stats to be flushed:
    whoever counts adds to it."""

    __slots__ = ("_environment", "_stats", "_table", "_worker", "changed")

    def __init__(self, environment: Environment, worker: Worker, table: lmdb._Database | None = None) -> None:
        self._environment = environment
        self._table = table or environment.tables.metrics
        self._worker = worker
        self._stats: dict[tuple[MetricKind, bytes], Stat] = {}
        self.changed: set[Stat] = set()

    def stat(self, kind: MetricKind, name: bytes) -> Stat | None:
        """The one stat of this kind and name; None when there are too many."""
        stat = self._stats.get((kind, name))
        if stat is None and len(self._stats) < STATS_PER_WORKER:
            stat = self._stats[kind, name] = Stat(kind, name)
            # A stat shows on the page, with 0, before it first counts.
            self.changed.add(stat)
        return stat

    def value(self, stat: Stat) -> int:
        """A counter's total on this host, as far as the others have flushed; a gauge as this worker set it."""
        if stat.kind is _GAUGE:
            return stat.numbers[0]
        return stat.numbers[0] + total_of_others(self._environment, self._table, stat.key, self._worker.number)

    def flush(self) -> Status:
        """Writes what changed since the last flush; what cannot be written stays for the next."""
        changed, table = list(self.changed), self._table
        try:
            for start in range(0, len(changed), FLUSH_BATCH):
                batch = changed[start : start + FLUSH_BATCH]
                with self._environment.write() as txn:
                    for stat in batch:
                        store(txn, table, self._worker.number, stat.key, stat.numbers, stat.name)
                self.changed.difference_update(batch)
        except lmdb.Error as error:
            return self._environment.failed(error)
        return _OK

    def statistics(self) -> dict[str, int]:
        return {"stats": len(self._stats), "stats_limit": STATS_PER_WORKER, "unflushed": len(self.changed)}

    def __repr__(self) -> str:
        return f"<WorkerMetrics of {self._worker!r} stats={len(self._stats)} unflushed={len(self.changed)}>"


class PluginMetrics:
    """The metric functions of one plugin's VM. Lives as long as the VM: a rebuilt VM defines its metrics again."""

    __slots__ = ("_changed", "_ids", "_last", "_metrics", "_stats")

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._changed = metrics.changed
        self._stats: dict[int, Stat] = {}
        self._ids: dict[Stat, int] = {}
        self._last = [int(kind) for kind in MetricKind]

    def define(self, kind: int, name: bytes) -> tuple[Status, int]:
        """The stat's id: the same one when it is defined again, where Envoy would make up a new one for the same stat.

        BAD_ARGUMENT: no such kind, or a name beyond NAME_BYTES. INTERNAL_FAILURE: too many stats.
        """
        if kind not in _KINDS or len(name) > NAME_BYTES:
            return Status.BAD_ARGUMENT, 0
        stat = self._metrics.stat(_KINDS[kind], name)
        if stat is None:
            return Status.INTERNAL_FAILURE, 0
        metric = self._ids.get(stat)
        if metric is None:
            self._last[kind] += _ID_STEP
            metric = self._ids[stat] = self._last[kind]
            self._stats[metric] = stat
        return Status.OK, metric

    def increment(self, metric: int, delta: int) -> Status:
        """`delta` is signed. A counter only grows; a histogram has nothing to add to."""
        stat = self._stats.get(metric)
        if stat is None:
            return Status.NOT_FOUND
        if stat.kind is _HISTOGRAM or (stat.kind is _COUNTER and delta <= 0):
            return Status.BAD_ARGUMENT
        self._changed.add(stat)
        stat.numbers[0] += delta
        return _OK

    def record(self, metric: int, value: int) -> Status:
        """`value` is unsigned, and taken modulo 2**64. Adds to a counter, sets a gauge, is a histogram's sample."""
        stat = self._stats.get(metric)
        if stat is None:
            return Status.NOT_FOUND
        self._changed.add(stat)
        value &= U64_MASK
        if stat.kind is _COUNTER:
            stat.numbers[0] += value
        elif stat.kind is _GAUGE:
            stat.numbers[0] = signed(value)
        else:
            add_sample(stat.numbers, value)
        return _OK

    def get(self, metric: int) -> tuple[Status, int]:
        """A u64: a negative gauge as its two's complement. A histogram has no one value."""
        stat = self._stats.get(metric)
        if stat is None:
            return Status.NOT_FOUND, 0
        if stat.kind is _HISTOGRAM:
            return Status.BAD_ARGUMENT, 0
        try:
            return Status.OK, self._metrics.value(stat) & U64_MASK
        except lmdb.Error:
            return Status.INTERNAL_FAILURE, 0

    def __repr__(self) -> str:
        return f"<PluginMetrics stats={len(self._stats)}>"
