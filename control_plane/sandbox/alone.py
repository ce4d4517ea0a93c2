"""The services of a plugin that is alone in the world: what it shares, it shares with itself, until the dry run ends.

The law: whatever works in a worker works here, so that no plugin fails its dry run for want of company; nothing leaves.
"""

from __future__ import annotations

from collections import deque

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import CallHandle, GrpcHandle, GrpcRequest, HttpRequest, PendingCall
from shared.proxy_wasm.vm import PluginContext

_MASK32 = 0xFFFFFFFF
_MASK64 = (1 << 64) - 1
# What a plugin may leave here while it starts. More is refused as a full store refuses it.
ROOM_BYTES = 16 * 1024 * 1024


class Unanswered:
    """A call that goes nowhere: the dry run is over before anything could be told of it."""

    def send(self, message: bytes, eos: bool) -> Status:
        return Status.OK

    def close(self) -> None:
        pass

    cancel = abandon = close


class Alone:
    """SharedServices and Callouts of one dry run."""

    holds_requests = False

    def __init__(self) -> None:
        self._data: dict[bytes, tuple[bytes, int]] = {}
        self._queues: dict[bytes, int] = {}
        self._items: dict[int, deque[bytes]] = {}
        self._metrics: dict[tuple[int, bytes], int] = {}
        self._values: dict[int, int] = {}
        self._room = ROOM_BYTES

    def _takes(self, *parts: bytes) -> bool:
        """Every write counts: what a queue gave away or a key had before is not given back within one dry run."""
        self._room -= 64 + sum(map(len, parts))
        return self._room >= 0

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]:
        return Status.OK, Unanswered()

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        return Status.OK, Unanswered()

    def get_data(self, key: bytes) -> tuple[Status, bytes, int]:
        found = self._data.get(key)
        return (Status.NOT_FOUND, b"", 0) if found is None else (Status.OK, *found)

    def set_data(self, key: bytes, value: bytes, cas: int) -> Status:
        before = self._data.get(key, (b"", 0))[1]
        if cas and cas != before:
            return Status.CAS_MISMATCH
        if not self._takes(key, value):
            return Status.INTERNAL_FAILURE
        self._data[key] = (value, (before + 1) & _MASK32 or 1)
        return Status.OK

    def register_queue(self, plugin_context: PluginContext, name: bytes) -> tuple[Status, int]:
        if not self._takes(name):
            return Status.INTERNAL_FAILURE, 0
        queue = self._queues.setdefault(name, len(self._queues) + 1)
        self._items.setdefault(queue, deque())
        return Status.OK, queue

    def resolve_queue(self, vm_id: bytes, name: bytes) -> tuple[Status, int]:
        queue = self._queues.get(name, 0)
        return (Status.OK if queue else Status.NOT_FOUND), queue

    def enqueue(self, queue: int, data: bytes) -> Status:
        items = self._items.get(queue)
        if items is None:
            return Status.NOT_FOUND
        if not self._takes(data):
            return Status.INTERNAL_FAILURE
        items.append(data)
        return Status.OK

    def dequeue(self, queue: int) -> tuple[Status, bytes]:
        items = self._items.get(queue)
        if items is None:
            return Status.NOT_FOUND, b""
        return (Status.OK, items.popleft()) if items else (Status.EMPTY, b"")

    def define_metric(self, kind: int, name: bytes) -> tuple[Status, int]:
        if not self._takes(name):
            return Status.INTERNAL_FAILURE, 0
        metric = self._metrics.setdefault((kind, name), len(self._metrics) + 1)
        self._values.setdefault(metric, 0)
        return Status.OK, metric

    def increment_metric(self, metric: int, delta: int) -> Status:
        return self.record_metric(metric, self._values.get(metric, 0) + delta)

    def record_metric(self, metric: int, value: int) -> Status:
        if metric not in self._values:
            return Status.NOT_FOUND
        self._values[metric] = value & _MASK64
        return Status.OK

    def get_metric(self, metric: int) -> tuple[Status, int]:
        value = self._values.get(metric)
        return (Status.NOT_FOUND, 0) if value is None else (Status.OK, value)
