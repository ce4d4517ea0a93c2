"""What the workers of a host share, as one object for the worker that opens it.

The law: opened by each worker process after it was forked, used on the thread of its event loop, closed at its end; a worker
that is killed instead leaves nothing behind that others do not clear. The caller's part:

    state = HostState(directory)
    loop.add_reader(state.ready_fd(), deliver)      # deliver: for owner, queue in state.take_ready(): ...
    every TEND_SECONDS: state.tend(), then deliver()
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import lmdb

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.census import bury, settle
from shared.proxy_wasm.state.environment import MAP_SIZE, Environment
from shared.proxy_wasm.state.health import HealthTable
from shared.proxy_wasm.state.keys import U64
from shared.proxy_wasm.state.metric_table import Metric, collect
from shared.proxy_wasm.state.metrics import PluginMetrics, WorkerMetrics
from shared.proxy_wasm.state.shared_data import SharedData
from shared.proxy_wasm.state.shared_queue import SharedQueues
from shared.proxy_wasm.state.workers import Worker

# How much counting a crash may lose, how late an event is whose wake-up was lost, how long a dead worker is unnoticed.
TEND_SECONDS: Final = 1.0

# What `data.get` and `queues.resolve` raise when the environment cannot be read.
StateReadError = lmdb.Error


class HostState:
    """Raises HostStateError when the directory cannot be used."""

    __slots__ = ("data", "environment", "gateway", "health", "metrics", "queues", "worker")

    def __init__(self, directory: Path, map_size: int = MAP_SIZE) -> None:
        self.environment = Environment(directory, map_size)
        try:
            self.worker = Worker(self.environment)
        except Exception:
            self.environment.close()
            raise
        self.data = SharedData(self.environment)
        self.queues = SharedQueues(self.environment, self.worker)
        self.health = HealthTable(self.environment, self.worker)
        self.metrics = WorkerMetrics(self.environment, self.worker)
        self.gateway = WorkerMetrics(self.environment, self.worker, self.environment.tables.gateway)
        bury(self.environment, self.worker)

    def plugin_metrics(self) -> PluginMetrics:
        """The metric functions of one plugin's VM."""
        return PluginMetrics(self.metrics)

    def ready_fd(self) -> int:
        return self.queues.ready_fd()

    def take_ready(self) -> list[tuple[int, int]]:
        return self.queues.take_ready()

    def tend(self) -> None:
        """Writes the counts, and clears what dead workers left."""
        self._flush()
        self.environment.release_dead_readers()
        bury(self.environment, self.worker)

    def collect(self) -> list[Metric]:
        """For the Prometheus page: this worker's numbers as of now, the others' as of their last flush."""
        self.metrics.flush()
        return collect(self.environment)

    def report(self, data: bytes) -> Status:
        """What this worker says of itself, for whoever shows it; gone with the worker."""
        try:
            with self.environment.write() as txn:
                txn.put(U64.pack(self.worker.number), data, db=self.environment.tables.reports)
        except lmdb.Error as error:
            return self.environment.failed(error)
        return Status.OK

    def _flush(self) -> None:
        self.metrics.flush()
        self.gateway.flush()

    def close(self) -> None:
        """Leaves in order: counts are kept, events go to others."""
        self._flush()
        self.worker.close()
        try:
            for heir in settle(self.environment, [self.worker.number]):
                self.worker.wake(heir)
        except lmdb.Error as error:
            # The next census finds this worker dead.
            self.environment.failed(error)
        self.environment.close()

    def statistics(self) -> dict[str, dict[str, int | str]]:
        return {
            "environment": self.environment.statistics(),
            "shared_data": dict(self.data.statistics()),
            "shared_queues": dict(self.queues.statistics()),
            "metrics": dict(self.metrics.statistics()),
        }

    def __repr__(self) -> str:
        return f"<HostState {self.environment.directory} {self.worker!r}>"
