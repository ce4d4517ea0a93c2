"""Publishes a worker's numbers and what it says of itself to the host's state, once a second and when it ends.

The law: it only reads what others count; a request never waits for it and never knows of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict

from data_plane.observe.counters import Counters
from data_plane.observe.families import HTTP_STATUS, OF_A_WORKER, OF_STREAMS, counters_of, sample
from data_plane.observe.status import WorkerStatus
from data_plane.observe.stream_counters import StreamCounters
from shared.proxy_wasm.state.host_state import TEND_SECONDS, HostState
from shared.proxy_wasm.state.metric_table import MetricKind


class Reporter:
    """`status` is asked each time; `close` before the state is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: HostState,
        requests: Counters,
        streams: StreamCounters,
        status: Callable[[], WorkerStatus],
    ) -> None:
        self._loop = loop
        self._state = state
        self._requests = requests
        self._counted = ((OF_A_WORKER, requests), (OF_STREAMS, streams))
        self._status = status
        self._publishing = loop.call_soon(self._publish)

    def close(self) -> None:
        """The last numbers are kept."""
        self._publishing.cancel()
        self._count(self._status())

    def _publish(self) -> None:
        status = self._status()
        self._count(status)
        self._state.report(json.dumps(asdict(status)).encode())
        self._publishing = self._loop.call_later(TEND_SECONDS, self._publish)

    def _count(self, status: WorkerStatus) -> None:
        for samples, counters in self._counted:
            for name, value in counters.statistics().items():
                self._set(samples[name], value)
        for code, count in self._requests.statuses().items():
            self._set(sample(HTTP_STATUS, code=str(code)), count)
        for plugin in status.plugins:
            for name, number in counters_of(plugin):
                self._set(name, number)
        self._state.gateway.flush()

    def _set(self, name: str, value: int) -> None:
        gateway = self._state.gateway
        stat = gateway.stat(MetricKind.COUNTER, name.encode())
        if stat is not None and stat.numbers[0] != value:
            stat.numbers[0] = value
            gateway.changed.add(stat)
