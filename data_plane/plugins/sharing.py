"""What the plugins of one worker share with those of the other workers of the host: shared data, queues and metrics.

The law: a plugin's vm_id is its name, so its VMs in all workers share, and other plugins reach its queues only by that name. A
queue's events go to the PluginContext that registered it last; contexts are known to the host by a token that is never used
again, because context ids are. What LMDB cannot do is INTERNAL_FAILURE for the plugin and a log line for the operator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.host_state import TEND_SECONDS, HostState, StateReadError
from shared.proxy_wasm.state.metrics import PluginMetrics
from shared.proxy_wasm.vm import PluginContext

log = structlog.get_logger("wasm")

QueueReady = Callable[[PluginContext, int], None]


class HostSharing:
    """One worker's part in the host's state. `queue_ready` is told of every event that is due here."""

    def __init__(self, state: HostState, loop: asyncio.AbstractEventLoop, queue_ready: QueueReady) -> None:
        self.state = state
        self._loop = loop
        self._queue_ready = queue_ready
        self._tokens = count(1)
        self._contexts: dict[int, PluginContext] = {}
        self._token_of: dict[PluginContext, int] = {}
        loop.add_reader(state.ready_fd(), self._deliver)
        self._tending = loop.call_later(TEND_SECONDS, self._tend)

    def services(self, plugin_name: str, data_bytes: int) -> PluginSharing:
        return PluginSharing(self, plugin_name, data_bytes)

    def token(self, context: PluginContext) -> int:
        token = self._token_of.get(context)
        if token is None:
            token = self._token_of[context] = next(self._tokens)
            self._contexts[token] = context
        return token

    def release(self, context: PluginContext) -> None:
        """The context is gone: its queues' events go to whoever registered them before, or will."""
        token = self._token_of.pop(context, None)
        if token is not None:
            del self._contexts[token]
            self.state.queues.release(token)

    def close(self) -> None:
        self._tending.cancel()
        self._loop.remove_reader(self.state.ready_fd())
        self.state.close()

    def _deliver(self) -> None:
        for token, queue in self.state.take_ready():
            context = self._contexts.get(token)
            if context is not None:
                self._queue_ready(context, queue)

    def _tend(self) -> None:
        self.state.tend()
        self._deliver()
        self._tending = self._loop.call_later(TEND_SECONDS, self._tend)


class PluginSharing:
    """SharedServices of one plugin's VM. `data_bytes` is the limit of its shared data."""

    def __init__(self, sharing: HostSharing, plugin_name: str, data_bytes: int) -> None:
        self._sharing = sharing
        self._state = sharing.state
        self._vm_id = plugin_name
        self._data_bytes = data_bytes
        self._metrics: PluginMetrics = sharing.state.plugin_metrics()

    def get_data(self, key: bytes) -> tuple[Status, bytes, int]:
        try:
            found = self._state.data.get(self._vm_id, key)
        except StateReadError as error:
            return self._failed(error), b"", 0
        return (Status.NOT_FOUND, b"", 0) if found is None else (Status.OK, *found)

    def set_data(self, key: bytes, value: bytes, cas: int) -> Status:
        return self._state.data.set(self._vm_id, key, value, cas, self._data_bytes)

    def register_queue(self, plugin_context: PluginContext, name: bytes) -> tuple[Status, int]:
        return self._state.queues.register(self._vm_id, name, self._sharing.token(plugin_context))

    def resolve_queue(self, vm_id: bytes, name: bytes) -> tuple[Status, int]:
        owner = vm_id.decode("utf-8", "replace") or self._vm_id
        try:
            queue = self._state.queues.resolve(owner, name)
        except StateReadError as error:
            return self._failed(error), 0
        return (Status.NOT_FOUND, 0) if queue is None else (Status.OK, queue)

    def enqueue(self, queue: int, data: bytes) -> Status:
        return self._state.queues.enqueue(queue, data)

    def dequeue(self, queue: int) -> tuple[Status, bytes]:
        return self._state.queues.dequeue(queue)

    def define_metric(self, kind: int, name: bytes) -> tuple[Status, int]:
        return self._metrics.define(kind, name)

    def increment_metric(self, metric: int, delta: int) -> Status:
        return self._metrics.increment(metric, delta)

    def record_metric(self, metric: int, value: int) -> Status:
        return self._metrics.record(metric, value)

    def get_metric(self, metric: int) -> tuple[Status, int]:
        return self._metrics.get(metric)

    def _failed(self, error: StateReadError) -> Status:
        log.error("the host's shared state cannot be read", plugin=self._vm_id, reason=str(error))
        return Status.INTERNAL_FAILURE
