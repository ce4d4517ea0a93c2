"""One call of a foreign function, as the function sees it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from shared.proxy_wasm import properties
from shared.proxy_wasm.abi import LogLevel, MapType, Status
from shared.proxy_wasm.pairs import Pairs

if TYPE_CHECKING:
    from shared.proxy_wasm.properties import StreamFacts
    from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM


class ForeignCall:
    """`arguments` are the plugin's bytes. A call from a timer or a configuration belongs to no stream."""

    __slots__ = ("_vm", "arguments", "plugin_context", "stream")

    def __init__(self, vm: PluginVM, plugin_context: PluginContext, stream: HttpContext | None, arguments: bytes) -> None:
        self._vm = vm
        self.plugin_context = plugin_context
        self.stream = stream
        self.arguments = arguments

    @property
    def plugin_name(self) -> str:
        return self._vm.settings.plugin_name

    @property
    def result_limit(self) -> int:
        """Bytes of a result at most."""
        return self._vm.settings.limits.body_buffer_bytes

    @property
    def state(self) -> dict[str, object]:
        """What functions keep for this plugin context, by names of their own; it goes with the context."""
        return self.plugin_context.foreign_state

    @property
    def facts(self) -> StreamFacts | None:
        return None if self.stream is None else self.stream.owner.facts

    def headers(self, map_type: MapType) -> Pairs | None:
        """The stream's map as it stands now."""
        return None if self.stream is None else self._vm.show_map(self.stream, map_type)

    def get_property(self, path: str) -> bytes | None:
        """What plugins have set on this stream."""
        return properties.plugins_own(self._own(), path.encode())

    def set_property(self, path: str, value: bytes) -> Status:
        if self.stream is None:
            return Status.NOT_FOUND
        self.stream.owner.plugin_properties()[path.encode()] = value
        return Status.OK

    def _own(self) -> dict[bytes, bytes]:
        return {} if self.stream is None else self.stream.owner.plugin_properties()

    def later(self, function: int, arguments: bytes) -> None:
        """Have the plugin's proxy_on_foreign_function called when the current callback has returned. Also to be called at any
        later time, by the thread of the event loop, as long as the plugin context lives."""
        self._vm.settings.foreign.deliver(self.plugin_context, function, arguments)

    def excused(self) -> AbstractContextManager[None]:
        """What is done in here does not count as the plugin's CPU time. The worker serves nobody meanwhile."""
        return self._vm.excused()

    def log(self, level: LogLevel, message: str) -> None:
        context = self.plugin_context.id if self.stream is None else self.stream.id
        self._vm.observer.log(level, context, message)
