"""The numbers of plugins' metrics as rows: one for each stat and worker, and one for all the dead together.

The law: a sum over a stat's rows is exact at any time, because each worker writes only its own row, whole, and a dead worker's
count moves to nobody's row in one transaction. A counter's and a histogram's counts stay when a worker dies: what happened has
happened. A gauge's value goes with it: it told of something in the worker (requests in flight, entries in a cache) that
is no more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from itertools import accumulate, islice
from typing import Final

import lmdb

from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U64, rows
from shared.proxy_wasm.state.workers import NOBODY


class MetricKind(IntEnum):
    """`type` of proxy_define_metric."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


# Envoy's default: half a millisecond to an hour, when the samples are milliseconds.
BUCKETS: Final = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000)
_SUM: Final = len(BUCKETS) + 1  # after the bucket of all that is larger

# Of each number. A histogram adds up samples of 64 bits, which 64 bits do not hold; the same width for all keeps one format.
_WIDTH: Final = 16
_MASK: Final = (1 << 8 * _WIDTH) - 1
_STAT_BYTES: Final = 17
U64_MASK: Final = (1 << 64) - 1

# How many numbers a stat has: its value, or its buckets and its sum.
_LENGTHS: Final = {MetricKind.COUNTER: 1, MetricKind.GAUGE: 1, MetricKind.HISTOGRAM: _SUM + 1}


def zeros(kind: MetricKind) -> list[int]:
    return [0] * _LENGTHS[kind]


def add_sample(numbers: list[int], value: int) -> None:
    numbers[bisect_left(BUCKETS, value)] += 1
    numbers[_SUM] += value


def signed(value: int) -> int:
    """A gauge is read as signed: a plugin may count it below zero, or record a negative number."""
    value &= U64_MASK
    return value - (1 << 64) if value >> 63 else value


@dataclass(frozen=True, slots=True)
class Metric:
    """A stat summed over the workers. Which fields have a meaning depends on the kind."""

    name: str
    kind: MetricKind
    value: int = 0
    buckets: tuple[int, ...] = ()  # samples up to each bound of BUCKETS, and all
    sum: int = 0

    @property
    def count(self) -> int:
        return self.buckets[-1]


def stat_key(kind: MetricKind, name: bytes) -> bytes:
    """The same name under two kinds is two stats."""
    return bytes([kind]) + blake2b(name, digest_size=_STAT_BYTES - 1).digest()


def store(
    txn: lmdb.Transaction[bytes], table: lmdb._Database, worker: int, stat: bytes, numbers: Sequence[int], name: bytes
) -> None:
    row = b"".join([(number & _MASK).to_bytes(_WIDTH, "big") for number in numbers])
    txn.put(U64.pack(worker) + stat, row + name, db=table)


def _numbers(stat: bytes, row: bytes) -> list[int]:
    length = _LENGTHS[MetricKind(stat[0])] * _WIDTH
    return [int.from_bytes(row[at : at + _WIDTH], "big") for at in range(0, length, _WIDTH)]


def _name(stat: bytes, row: bytes) -> bytes:
    return row[_LENGTHS[MetricKind(stat[0])] * _WIDTH :]


def _sums(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


def total_of_others(environment: Environment, table: lmdb._Database, stat: bytes, worker: int) -> int:
    """A counter's value in all rows but this worker's."""
    tables = environment.tables
    with environment.read() as txn:
        workers = [U64.pack(NOBODY), *(key for key, _ in rows(txn, tables.workers) if key != U64.pack(worker))]
        found = [txn.get(other + stat, db=table) for other in workers]
    return sum(_numbers(stat, row)[0] for row in found if row is not None)


def fold(txn: lmdb.Transaction[bytes], table: lmdb._Database, worker: int, limit: int) -> bool:
    """Moves up to `limit` of a dead worker's counts to nobody's rows, and drops its gauges; whether that was all."""
    batch = list(islice(rows(txn, table, U64.pack(worker)), limit))
    for key, row in batch:
        txn.delete(key, db=table)
        stat = key[U64.size :]
        if stat[0] != MetricKind.GAUGE:
            base = txn.get(U64.pack(NOBODY) + stat, db=table)
            numbers = _numbers(stat, row)
            store(txn, table, NOBODY, stat, numbers if base is None else _sums(numbers, _numbers(stat, base)), _name(stat, row))
    return len(batch) < limit


def collect(environment: Environment, table: lmdb._Database | None = None) -> list[Metric]:
    """All stats of a table, plugins' unless it is named: each summed over the workers as of their last flush, sorted by
    name."""
    sums: dict[bytes, list[int]] = {}
    names: dict[bytes, bytes] = {}
    with environment.read() as txn:
        found = list(rows(txn, table or environment.tables.metrics))
    for key, row in found:
        stat = key[U64.size :]
        numbers = _numbers(stat, row)
        sums[stat] = _sums(sums[stat], numbers) if stat in sums else numbers
        names[stat] = _name(stat, row)
    metrics = [_metric(MetricKind(stat[0]), names[stat].decode("utf-8", "replace"), numbers) for stat, numbers in sums.items()]
    return sorted(metrics, key=lambda metric: (metric.name, metric.kind))


def _metric(kind: MetricKind, name: str, numbers: list[int]) -> Metric:
    match kind:
        case MetricKind.COUNTER:
            return Metric(name, kind, numbers[0] & U64_MASK)
        case MetricKind.GAUGE:
            return Metric(name, kind, signed(numbers[0]))
        case MetricKind.HISTOGRAM:
            return Metric(name, kind, buckets=tuple(accumulate(numbers[:_SUM])), sum=numbers[_SUM])
