"""What plugins share beyond their VM: the side of the host that a PluginVM needs somebody to keep.

The law: none of this is a VM's own. Statuses are the ABI's; a failure to reach what is shared is INTERNAL_FAILURE, never an
exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.proxy_wasm.abi import Status

if TYPE_CHECKING:
    from shared.proxy_wasm.vm import PluginContext


class SharedServices(Protocol):
    """Shared data, queues and metrics of one plugin's VM."""

    def get_data(self, key: bytes) -> tuple[Status, bytes, int]:
        """(status, value, cas)"""

    def set_data(self, key: bytes, value: bytes, cas: int) -> Status: ...

    def register_queue(self, plugin_context: PluginContext, name: bytes) -> tuple[Status, int]: ...

    def resolve_queue(self, vm_id: bytes, name: bytes) -> tuple[Status, int]:
        """An empty vm_id is the plugin's own."""

    def enqueue(self, queue: int, data: bytes) -> Status: ...

    def dequeue(self, queue: int) -> tuple[Status, bytes]: ...

    def define_metric(self, kind: int, name: bytes) -> tuple[Status, int]: ...

    def increment_metric(self, metric: int, delta: int) -> Status: ...

    def record_metric(self, metric: int, value: int) -> Status: ...

    def get_metric(self, metric: int) -> tuple[Status, int]: ...
