"""A plugin's place in a worker, and a binding's: what stays when a VM fails and is built anew.

The law: a slot is all that the runtime knows of its plugin or binding; it is made by the first use, goes with the snapshot.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from data_plane.config.snapshot import PluginBinding, WasmPlugin
from data_plane.plugins.backoff import Backoff
from data_plane.plugins.link import Link
from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM, VmSettings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from data_plane.plugins.sharing import HostSharing

_LOG_METHODS = {
    LogLevel.TRACE: "debug",
    LogLevel.DEBUG: "debug",
    LogLevel.INFO: "info",
    LogLevel.WARN: "warning",
    LogLevel.ERROR: "error",
    LogLevel.CRITICAL: "critical",
}


class SlotOwner(Protocol):
    """The runtime, as its slots see it."""

    engine: Engine
    loop: asyncio.AbstractEventLoop
    log_level: LogLevel
    logger: FilteringBoundLogger
    sharing: HostSharing | None

    def module_of(self, plugin: WasmPlugin) -> GuestModule: ...

    def set_tick_period(self, vm_slot: VmSlot, context: PluginContext, milliseconds: int) -> None: ...

    def delete_context(self, vm_slot: VmSlot, context: PluginContext) -> None: ...


class VmSlot:
    """A plugin's VM, when it runs, and the owner that its core talks to (VmObserver)."""

    def __init__(self, runtime: SlotOwner, plugin: WasmPlugin) -> None:
        self.plugin = plugin
        self.vm: PluginVM | None = None
        self.backoff = Backoff()
        self.traps = 0
        self._runtime = runtime
        self._log = runtime.logger.bind(plugin=plugin.name)

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        getattr(self._log, _LOG_METHODS[level])(message, context=context_id)

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        link = stream.owner
        assert isinstance(link, Link)
        self._runtime.loop.call_soon(link.apply, outcome)

    def set_tick_period(self, plugin_context: PluginContext, milliseconds: int) -> None:
        self._runtime.set_tick_period(self, plugin_context, milliseconds)

    def done(self, plugin_context: PluginContext) -> None:
        self._runtime.loop.call_soon(self._runtime.delete_context, self, plugin_context)

    def start(self) -> PluginVM:
        """Raises EngineError, VmFailed."""
        if self.vm is None:
            module = self._runtime.module_of(self.plugin)
            settings = VmSettings(
                self.plugin.name,
                self.plugin.limits,
                self.plugin.vm_configuration,
                self.plugin.environment,
                self._runtime.log_level,
            )
            sharing = self._runtime.sharing
            services = None if sharing is None else sharing.services(self.plugin.name)
            self.vm = PluginVM(self._runtime.engine, module, settings, self, services)
        return self.vm

    def failed(self, failure: VmFailed) -> None:
        """The VM is gone, or did not even start."""
        self.vm = None
        self.traps += 1
        self.backoff.failed(self._runtime.loop.time())
        self._log.error("plugin VM failed", code=failure.code, reason=str(failure), traps=self.traps)


class ContextSlot:
    """A binding's PluginContext, when it runs."""

    __slots__ = ("backoff", "binding", "context", "retired", "vm_slot")

    def __init__(self, binding: PluginBinding, vm_slot: VmSlot) -> None:
        self.binding = binding
        self.vm_slot = vm_slot
        self.context: PluginContext | None = None
        self.backoff = Backoff()
        self.retired = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Stands for a binding whose VM cannot take another stream."""

    binding: PluginBinding
    context: None = None
    retired: bool = False
