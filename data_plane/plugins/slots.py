"""A plugin's place in a worker, and a binding's: what stays when a VM fails and is built anew.

The law: a slot is all that the runtime knows of its plugin or binding; it is made by the first use, goes with the snapshot.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import thread_time
from typing import TYPE_CHECKING, Protocol

from data_plane.config.snapshot import PluginBinding, WasmPlugin
from data_plane.observe.log_rate import LogRate
from data_plane.plugins.backoff import Backoff, backoff_of
from data_plane.plugins.interface import CallProvider
from data_plane.plugins.link import Link
from data_plane.plugins.record import PluginRecord
from data_plane.plugins.stream import HeadStream
from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import StreamFailed, VmFailed
from shared.proxy_wasm.foreign.registry import ForeignFunctions
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.meter import CpuMeter
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.trace.transcript import Transcript
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
    foreign: ForeignFunctions
    node: str
    logger: FilteringBoundLogger
    sharing: HostSharing | None
    calls: CallProvider | None

    def module_of(self, plugin: WasmPlugin) -> GuestModule: ...

    def record_of(self, plugin: WasmPlugin) -> PluginRecord: ...

    def set_tick_period(self, vm_slot: VmSlot, context: PluginContext, milliseconds: int) -> None: ...

    def delete_context(self, vm_slot: VmSlot, context: PluginContext) -> None: ...

    def vm_failed(self, vm_slot: VmSlot, failure: VmFailed) -> None: ...


class VmSlot:
    """A plugin's VM, when it runs, and the owner that its core talks to (VmObserver). With a `transcript` it is traced."""

    transcript: Transcript | None = None

    def __init__(self, runtime: SlotOwner, plugin: WasmPlugin) -> None:
        self.plugin = plugin
        self.vm: PluginVM | None = None
        self.backoff = backoff_of(plugin.failure_policy)
        self.record = runtime.record_of(plugin)
        # Contexts that did not start the last time, the first one first.
        self.refused: dict[ContextSlot, None] = {}
        self._runtime = runtime
        self._log = runtime.logger.bind(plugin=plugin.name)
        self._rate = LogRate(plugin.limits.log_lines_per_second, runtime.loop, self._lines_dropped)
        self._meter: CpuMeter | None = None

    def log(self, level: LogLevel, context_id: int, message: str) -> None:
        if self._rate.admits():
            getattr(self._log, _LOG_METHODS[level])(message, context=context_id)

    def _lines_dropped(self, lines: int) -> None:
        self.record.log_lines_dropped += lines
        self._log.warning("plugin logs too much", dropped=lines, limit=self.plugin.limits.log_lines_per_second)

    def effects(self, stream: HttpContext, outcome: Outcome) -> None:
        owner = stream.owner
        if isinstance(owner, HeadStream):
            # It only takes note; later it may be another request's.
            owner.apply(outcome)
        else:
            assert isinstance(owner, Link)
            self._runtime.loop.call_soon(owner.apply, outcome)

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
                self._runtime.foreign,
                self._runtime.node,
                self.plugin.dialect,
            )
            sharing, limits = self._runtime.sharing, self.plugin.limits
            services = None if sharing is None else sharing.services(self.plugin.name, limits.shared_data_bytes)
            calls = self._runtime.calls
            callouts = None if calls is None else calls.callouts(self.plugin, self.vm_failed)
            began = thread_time()
            try:
                self.vm = PluginVM(self._runtime.engine, module, settings, self, services, self.transcript, callouts)
            finally:
                self.record.cpu_seconds += thread_time() - began
            self.record.starts += 1
            self.backoff.started(self._runtime.loop.time())
            stream_seconds = None if limits.stream_cpu_ms is None else limits.stream_cpu_ms / 1000
            self._meter = CpuMeter(self.vm, self._runtime.engine.watchdog, stream_seconds)
        return self.vm

    def vm_failed(self, failure: VmFailed) -> None:
        """One of its callbacks has failed it."""
        self._runtime.vm_failed(self, failure)

    def delete_context(self, context: PluginContext) -> None:
        self._runtime.delete_context(self, context)

    def failed(self, failure: VmFailed) -> None:
        """The VM is gone, or did not even start."""
        self.let_go()
        self.record.failed(failure)
        self.backoff.failed(self._runtime.loop.time())
        self._log.error("plugin VM failed", code=failure.code, reason=str(failure), failures=self.record.failures)

    def stream_failed(self, failure: StreamFailed) -> None:
        """One stream has used up what it may; said at the rate of the plugin's own lines."""
        self.record.streams_cut += 1
        if self._rate.admits():
            self._log.warning("plugin's stream is cut", code=failure.code, reason=str(failure))

    def let_go(self) -> None:
        """The VM ends here, whatever becomes of it."""
        self.vm = None
        self.measure()
        self._meter = None

    def measure(self) -> None:
        """Bring the record up to date."""
        if self._meter is not None:
            self.record.cpu_seconds += self._meter.take()


class ContextSlot:
    """A binding's PluginContext, when it runs. `problem` is why it did not start the last time."""

    __slots__ = ("backoff", "binding", "context", "problem", "retired", "vm_slot")

    def __init__(self, binding: PluginBinding, vm_slot: VmSlot) -> None:
        self.binding = binding
        self.vm_slot = vm_slot
        self.context: PluginContext | None = None
        self.backoff = Backoff()
        self.problem = ""
        self.retired = False

    def release_if_idle(self) -> None:
        """A retired binding's context goes with its last stream."""
        context = self.context
        if context is not None and not context.streams:
            self.context = None
            self.vm_slot.delete_context(context)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Stands for a binding whose VM cannot take another stream."""

    binding: PluginBinding
    context: None = None
    retired: bool = False
