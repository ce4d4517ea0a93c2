"""What native plugins count, in the rows of the gateway's own metrics.

The law: adding is an addition in this process, which the worker's flush writes; nothing here waits, and none fails a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from data_plane.observe.families import TURNED_AWAY, sample
from shared.plugin.metrics import Series
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.metric_table import MetricKind, add_sample
from shared.proxy_wasm.state.metrics import Stat, WorkerMetrics


class _Counter:
    __slots__ = ("_changed", "_stat")

    def __init__(self, stat: Stat, changed: set[Stat]) -> None:
        self._stat = stat
        self._changed = changed

    def add(self, value: int) -> None:
        self._stat.numbers[0] += value
        self._changed.add(self._stat)


class _Histogram:
    __slots__ = ("_changed", "_stat")

    def __init__(self, stat: Stat, changed: set[Stat]) -> None:
        self._stat = stat
        self._changed = changed

    def add(self, value: int) -> None:
        add_sample(self._stat.numbers, value)
        self._changed.add(self._stat)


class _Nobody:
    def add(self, value: int) -> None:
        pass


NOBODY: Final = _Nobody()


class HostMetrics:
    """`state` None: there is no memory that workers share, and no page."""

    def __init__(self, state: HostState | None) -> None:
        self._rows: WorkerMetrics | None = None if state is None else state.gateway
        # Made while there is room.
        self._turned_away = None if state is None else state.gateway.stat(MetricKind.COUNTER, TURNED_AWAY.encode())

    def counter(self, family: str, labels: Mapping[str, str]) -> Series:
        stat = self._stat(MetricKind.COUNTER, family, labels)
        return NOBODY if stat is None or self._rows is None else _Counter(stat, self._rows.changed)

    def histogram(self, family: str, labels: Mapping[str, str]) -> Series:
        stat = self._stat(MetricKind.HISTOGRAM, family, labels)
        return NOBODY if stat is None or self._rows is None else _Histogram(stat, self._rows.changed)

    def _stat(self, kind: MetricKind, family: str, labels: Mapping[str, str]) -> Stat | None:
        rows = self._rows
        if rows is None:
            return None
        stat = rows.stat(kind, sample(family, **labels).encode())
        if stat is None and self._turned_away is not None:
            self._turned_away.numbers[0] += 1
            rows.changed.add(self._turned_away)
        return stat
