"""Shared data, queues and metrics in memory, for plugins without a gateway around them.

The law: statuses and numbers are those of shared/proxy_wasm/state; nothing is limited. A queue's event waits in `ready` until
whoever runs the plugins delivers it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.vm import PluginContext

_KINDS = ("counter", "gauge", "histogram")
_COUNTER, _GAUGE, _HISTOGRAM = range(3)
_ID_STEP = 4
_U64 = (1 << 64) - 1


@dataclass(slots=True)
class Queue:
    vm_id: str
    name: bytes
    items: deque[bytes] = field(default_factory=deque)
    owner: PluginContext | None = None


@dataclass(slots=True)
class Metric:
    """`value` of a counter or a gauge, `samples` of a histogram."""

    kind: str
    name: str
    value: int = 0
    samples: list[int] = field(default_factory=list)


class Shared:
    """What all plugins of one test share."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self.queues: dict[int, Queue] = {}
        self.metrics: dict[tuple[int, bytes], Metric] = {}
        self.ready: deque[int] = deque()
        self._cas = count(1)

    def next_cas(self) -> int:
        return next(self._cas)

    def find_queue(self, vm_id: str, name: bytes) -> int:
        """0: there is none."""
        return next((number for number, queue in self.queues.items() if (queue.vm_id, queue.name) == (vm_id, name)), 0)

    def forget(self, owner: PluginContext) -> None:
        for queue in self.queues.values():
            if queue.owner is owner:
                queue.owner = None


class MemoryServices:
    """SharedServices of one plugin's VM."""

    def __init__(self, shared: Shared, vm_id: str) -> None:
        self._shared = shared
        self._vm_id = vm_id
        self._ids: dict[int, Metric] = {}
        self._last = [_COUNTER, _GAUGE, _HISTOGRAM]

    def get_data(self, key: bytes) -> tuple[Status, bytes, int]:
        held = self._shared.data.get((self._vm_id, key))
        return (Status.NOT_FOUND, b"", 0) if held is None else (Status.OK, *held)

    def set_data(self, key: bytes, value: bytes, cas: int) -> Status:
        held = self._shared.data.get((self._vm_id, key))
        if held is not None and cas and cas != held[1]:
            return Status.CAS_MISMATCH
        self._shared.data[self._vm_id, key] = value, self._shared.next_cas()
        return Status.OK

    def register_queue(self, plugin_context: PluginContext, name: bytes) -> tuple[Status, int]:
        queues = self._shared.queues
        number = self._shared.find_queue(self._vm_id, name) or len(queues) + 1
        queues.setdefault(number, Queue(self._vm_id, name)).owner = plugin_context
        return Status.OK, number

    def resolve_queue(self, vm_id: bytes, name: bytes) -> tuple[Status, int]:
        number = self._shared.find_queue(vm_id.decode("utf-8", "replace") or self._vm_id, name)
        return (Status.OK, number) if number else (Status.NOT_FOUND, 0)

    def enqueue(self, queue: int, data: bytes) -> Status:
        found = self._shared.queues.get(queue)
        if found is None:
            return Status.NOT_FOUND
        found.items.append(data)
        self._shared.ready.append(queue)
        return Status.OK

    def dequeue(self, queue: int) -> tuple[Status, bytes]:
        found = self._shared.queues.get(queue)
        if found is None:
            return Status.NOT_FOUND, b""
        return (Status.OK, found.items.popleft()) if found.items else (Status.EMPTY, b"")

    def define_metric(self, kind: int, name: bytes) -> tuple[Status, int]:
        if kind >= len(_KINDS):
            return Status.BAD_ARGUMENT, 0
        shown = name.decode("utf-8", "backslashreplace")
        metric = self._shared.metrics.setdefault((kind, name), Metric(_KINDS[kind], shown))
        known = next((number for number, held in self._ids.items() if held is metric), 0)
        if not known:
            self._last[kind] += _ID_STEP
            known = self._last[kind]
            self._ids[known] = metric
        return Status.OK, known

    def increment_metric(self, metric: int, delta: int) -> Status:
        held = self._ids.get(metric)
        if held is None:
            return Status.NOT_FOUND
        if held.kind == _KINDS[_HISTOGRAM] or (held.kind == _KINDS[_COUNTER] and delta <= 0):
            return Status.BAD_ARGUMENT
        held.value += delta
        return Status.OK

    def record_metric(self, metric: int, value: int) -> Status:
        held = self._ids.get(metric)
        if held is None:
            return Status.NOT_FOUND
        if held.kind == _KINDS[_HISTOGRAM]:
            held.samples.append(value & _U64)
        elif held.kind == _KINDS[_GAUGE]:
            held.value = value - (1 << 64) if value >> 63 else value
        else:
            held.value += value
        return Status.OK

    def get_metric(self, metric: int) -> tuple[Status, int]:
        held = self._ids.get(metric)
        if held is None:
            return Status.NOT_FOUND, 0
        if held.kind == _KINDS[_HISTOGRAM]:
            return Status.BAD_ARGUMENT, 0
        return Status.OK, held.value & _U64
