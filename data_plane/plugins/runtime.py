"""All Wasm plugins of one worker: their modules, VMs and PluginContexts, from first use to the last stream's end.

The law: one VM for each WasmPlugin of the snapshots, one PluginContext for each PluginBinding, both by identity and both made
by the first request that needs them, or before it for a plugin that runs by itself (loading.py). A binding that left the
snapshot keeps its context until its last stream ended. A failed VM is dropped whole and built anew after a pause that grows
while it keeps failing; meanwhile its streams get the failure policy.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import structlog

from data_plane.config.snapshot import Binding, PluginBinding, Snapshot, WasmPlugin
from data_plane.observe.status import PluginStatus
from data_plane.plugins.arrangement import PLAIN, Arrangement, arrange
from data_plane.plugins.chain import WasmChain
from data_plane.plugins.interface import CallProvider, ChainSink, PluginStream, StreamInfo
from data_plane.plugins.leaving import Leaving
from data_plane.plugins.link import Link
from data_plane.plugins.loading import Loader, bindings_of, runs_by_itself
from data_plane.plugins.native import mixed_chain
from data_plane.plugins.record import REASON_SHOWN, PluginRecord
from data_plane.plugins.sharing import HostSharing
from data_plane.plugins.slots import ContextSlot, Unavailable, VmSlot
from data_plane.plugins.status import plugin_statuses
from data_plane.plugins.stream import HeadStream
from data_plane.plugins.streams import HeadStreams
from data_plane.plugins.swap import Swaps
from data_plane.plugins.waiting import NativeHost
from shared.proxy_wasm.abi import LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import EngineError, PluginRefused, StreamFailed, VmFailed
from shared.proxy_wasm.foreign.registry import ForeignFunction, ForeignFunctions
from shared.proxy_wasm.instance import GuestModule
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.vm import PluginContext

FetchModule = Callable[[str], Awaitable[bytes | None]]
# A module is linked by what its plugin may use: its digest, and the capabilities.
ModuleKey = tuple[str, frozenset[str] | None]


class WasmRuntime(NativeHost):
    """`fetch_module` gets a module's bytes from the configuration store by digest. Without `state` plugins share nothing:
    those functions answer Unimplemented, as HTTP and gRPC calls do as long as nobody is set to make them (`calls`). `foreign`
    are native functions beside Envoy's."""

    def __init__(
        self,
        engine: Engine,
        fetch_module: FetchModule,
        loop: asyncio.AbstractEventLoop,
        state: HostState | None = None,
        log_level: LogLevel = LogLevel.INFO,
        foreign: Mapping[str, ForeignFunction] | None = None,
    ) -> None:
        self.engine = engine
        self.loop = loop
        self.log_level = log_level
        self.logger: structlog.typing.WrappedLogger = structlog.get_logger("wasm")
        self.sharing = None if state is None else HostSharing(state, loop, self._queue_ready)
        self.calls: CallProvider | None = None
        self.foreign = ForeignFunctions(foreign, self._foreign_event)
        self.node = platform.node()
        self._fetch_module = fetch_module
        self._modules: dict[ModuleKey, GuestModule] = {}
        self._vms: dict[WasmPlugin, VmSlot] = {}
        self._contexts: dict[PluginBinding, ContextSlot] = {}
        self._slots: dict[tuple[PluginBinding, ...], list[ContextSlot]] = {}
        # Of a route with one plugin: every object less on the way there counts when a thousand routes are asked in turn.
        self._lone: dict[tuple[Binding, ...], ContextSlot] = {}
        self._several: dict[tuple[Binding, ...], list[ContextSlot]] = {}
        self._arranged: dict[tuple[Binding, ...], Arrangement] = {}
        NativeHost.__init__(self, loop)
        self._loader = Loader(loop, self._load)
        self._swaps = Swaps(self, self._vms, self._contexts)
        self._leaving = Leaving(loop, self._contexts)
        self._configured: list[WasmPlugin] = []
        self._records: dict[str, PluginRecord] = {}
        self._ticks: dict[PluginContext, asyncio.TimerHandle] = {}

    # --- configuration

    async def prepare(self, plugin: WasmPlugin) -> None:
        """Have the module compiled, and running already when it replaces one that works. Raises ValueError when it is no
        usable plugin or does not run as that one does, and what the store raises."""
        await self._compile(plugin)
        await self._swaps.prepare(plugin)

    async def _compile(self, plugin: WasmPlugin) -> None:
        key = _module_key(plugin)
        if key in self._modules:
            return
        data = await self._fetch_module(plugin.sha256)
        if data is None:
            raise ValueError(f"module {plugin.sha256} of plugin {plugin.name} is not in the store")
        try:
            self._modules[key] = await asyncio.to_thread(self.engine.compile, data, plugin.capabilities)
        except EngineError as error:
            raise ValueError(f"module of plugin {plugin.name} cannot be compiled: {error}") from None

    def sync(self, snapshot: Snapshot) -> None:
        """A new snapshot is served from now on: let go of what it does not have."""
        self._slots.clear()
        self._arranged.clear()
        self._lone.clear()
        self._several.clear()
        self._swaps.take_over(snapshot)
        for slot in self._leaving.found(snapshot):
            del self._contexts[slot.binding]
            slot.vm_slot.refused.pop(slot, None)
            slot.retired = True
            slot.release_if_idle()
        self._configured = list(snapshot.plugins.values())
        wanted = set(self._configured)
        for plugin in [plugin for plugin in self._vms if plugin not in wanted]:
            self._close_if_empty(self._vms.pop(plugin))
        for key in self._modules.keys() - {_module_key(plugin) for plugin in wanted}:
            del self._modules[key]
        unasked = {key for key, module in self._modules.items() if runs_by_itself(module)}
        self._loader.want(bindings_of(snapshot, {plugin for plugin in wanted if _module_key(plugin) in unasked}))

    def module_of(self, plugin: WasmPlugin) -> GuestModule:
        module = self._modules.get(_module_key(plugin))
        if module is None:
            raise EngineError(f"module {plugin.sha256} is not loaded")
        return module

    def record_of(self, plugin: WasmPlugin) -> PluginRecord:
        record = self._records.get(plugin.name)
        if record is None:
            record = self._records[plugin.name] = PluginRecord(plugin.name)
        return record

    def statuses(self) -> tuple[PluginStatus, ...]:
        """Of every configured plugin, also one that nothing has needed yet."""
        slots = [self._vms.get(plugin) or VmSlot(self, plugin) for plugin in self._configured]
        return tuple(plugin_statuses(slots, self.loop.time()))

    # --- streams

    def open_chain(self, bindings: tuple[Binding, ...], sink: ChainSink, info: StreamInfo) -> WasmChain:
        arrangement = self._arranged.get(bindings)
        if arrangement is None:
            arrangement = self._arranged[bindings] = arrange(bindings)
        if arrangement is not PLAIN:
            return mixed_chain(self, arrangement, sink, info)
        return WasmChain(self.links(cast(tuple[PluginBinding, ...], bindings), info), sink, self)

    def links(self, bindings: tuple[PluginBinding, ...], info: StreamInfo) -> list[Link]:
        """Each plugin's stream is there before the next one's context: their ids come in this order."""
        links = []
        for slot in self._slots_of(bindings):
            if slot.context is None:
                self._start(slot)
            try:
                links.append(Link(slot, info))
            except OverflowError as error:
                self.logger.error("plugin has too many streams", plugin=slot.binding.plugin.name, reason=str(error))
                links.append(Link(Unavailable(slot.binding), info))
        return links

    def slots_of(self, bindings: tuple[PluginBinding, ...]) -> list[ContextSlot]:
        """For a chain that makes its own links: their slots, started as far as that may be now."""
        slots = self._slots_of(bindings)
        for slot in slots:
            if slot.context is None:
                self._start(slot)
        return slots

    def _slots_of(self, bindings: tuple[PluginBinding, ...]) -> list[ContextSlot]:
        slots = self._slots.get(bindings)
        if slots is None:
            slots = self._slots[bindings] = [self._contexts.get(binding) or self._new_slot(binding) for binding in bindings]
            if all(binding.passes is None for binding in bindings):
                if len(slots) == 1:
                    self._lone[bindings] = slots[0]
                else:
                    self._several[bindings] = slots
        return slots

    def open_stream(self, bindings: tuple[Binding, ...], info: StreamInfo) -> HeadStream | HeadStreams | None:
        slot = self._lone.get(bindings)
        return self._open_streams(bindings, info) if slot is None else self._open_stream(slot, info)

    def _open_streams(self, bindings: tuple[Binding, ...], info: StreamInfo) -> HeadStreams | None:
        streams: list[HeadStream] = []
        for slot in self._several.get(bindings, ()):
            stream = self._open_stream(slot, info)
            if stream is None:
                for opened in streams:
                    opened.finish()
                return None
            streams.append(stream)
        return HeadStreams(streams, self.vm_failed) if streams else None

    def _open_stream(self, slot: ContextSlot, info: StreamInfo) -> HeadStream | None:
        context = slot.context
        if context is None or not context.vm.heads_only:
            return None
        ids = context.ids
        spare = ids.spare
        if isinstance(spare, HeadStream):
            # Another request, after `last_response` has ended the one before.
            ids.spare = None
            spare.slot = slot
            spare.facts = info
            context.streams += 1
            context.vm.streams[spare.id] = spare
            return spare
        try:
            return HeadStream(slot, context, info)
        except OverflowError:
            return None

    def take_over(self, stream: PluginStream, sink: ChainSink) -> WasmChain:
        if isinstance(stream, HeadStreams):
            links = [Link(each.slot, each.facts, each) for each in stream.streams]
            chain = WasmChain(links, sink, self)
            chain.resume(stream.requests)
            return chain
        assert isinstance(stream, HeadStream)
        return WasmChain([Link(stream.slot, stream.facts, stream)], sink, self)

    def finish(self, stream: PluginStream) -> None:
        if isinstance(stream, HeadStreams):
            stream.finish()
            return
        assert isinstance(stream, HeadStream)
        try:
            stream.finish()
        except VmFailed as failure:
            self.vm_failed(stream.slot.vm_slot, failure)
        if stream.slot.retired:
            stream.slot.release_if_idle()

    def _new_slot(self, binding: PluginBinding) -> ContextSlot:
        vm_slot = self._vms.get(binding.plugin)
        if vm_slot is None:
            vm_slot = self._vms[binding.plugin] = VmSlot(self, binding.plugin)
        slot = self._contexts[binding] = ContextSlot(binding, vm_slot)
        return slot

    def _start(self, slot: ContextSlot) -> None:
        """Make the binding's context, unless it failed a moment ago."""
        now = self.loop.time()
        vm_slot = slot.vm_slot
        if slot.backoff.waits(now) or (vm_slot.vm is None and vm_slot.backoff.waits(now)):
            return
        try:
            slot.context = vm_slot.start().create_root(slot.binding.configuration)
        except VmFailed as failure:
            if vm_slot.vm is None:
                vm_slot.failed(failure)
            else:
                self.vm_failed(vm_slot, failure)
        except (PluginRefused, EngineError, OverflowError) as error:
            slot.problem = str(error)[:REASON_SHOWN]
            vm_slot.refused[slot] = None
            vm_slot.record.note("refused" if isinstance(error, PluginRefused) else "not_started", str(error))
            self.logger.error("plugin did not start", plugin=vm_slot.plugin.name, on=slot.binding.owner, reason=str(error))
        if slot.context is None:
            slot.backoff.failed(now)
        else:
            slot.backoff.succeeded()
            slot.problem = ""
            vm_slot.refused.pop(slot, None)

    def _load(self, binding: PluginBinding) -> float | None:
        """For the loader: a context that no request has asked for yet."""
        slot = self._contexts.get(binding) or self._new_slot(binding)
        if slot.context is None:
            self._start(slot)
        if slot.context is not None:
            return None
        return max(slot.backoff.until, slot.vm_slot.backoff.until) - self.loop.time()

    def stream_ended(self, link: Link) -> None:
        slot = link.slot
        if isinstance(slot, ContextSlot) and slot.retired:
            slot.release_if_idle()

    def stream_failed(self, link: Link, failure: VmFailed) -> None:
        slot = link.slot
        assert isinstance(slot, ContextSlot)
        if isinstance(failure, StreamFailed):
            slot.vm_slot.stream_failed(failure)
        else:
            self.vm_failed(slot.vm_slot, failure)

    def vm_failed(self, vm_slot: VmSlot, failure: VmFailed) -> None:
        """Every stream of the VM reports it; the first report counts."""
        vm = vm_slot.vm
        if vm is None or vm.failed is not failure:
            return
        vm_slot.failed(failure)
        for slot in self._contexts.values():
            if slot.vm_slot is vm_slot:
                slot.context = None
        for context in vm.roots.values():
            self._stop_ticks(context)
            self._stop_sharing(context)
        for stream in vm.streams.values():
            link = stream.owner
            if isinstance(link, Link) and link.chain is not None:
                self.loop.call_soon(link.chain.vm_failed, link, failure)
        self._loader.lost(vm_slot.plugin, vm_slot.backoff.until - self.loop.time())

    # --- ends of contexts

    def delete_context(self, vm_slot: VmSlot, context: PluginContext) -> None:
        """on_done and on_delete; a context that wants to finish something first stays until proxy_done."""
        try:
            if context.vm.failed is None and context.delete():
                self._stop_sharing(context)
        except VmFailed as failure:
            self.vm_failed(vm_slot, failure)
        if vm_slot.plugin not in self._vms:
            self._close_if_empty(vm_slot)

    def _close_if_empty(self, vm_slot: VmSlot) -> None:
        vm = vm_slot.vm
        if vm is not None and not vm.roots:
            vm_slot.let_go()
            vm.close()

    def close(self) -> None:
        """The worker ends: every context hears of it, and nothing is kept."""
        self._loader.close()
        self._swaps.close()
        self.stop_waiting()
        for ticking in list(self._ticks):
            self._stop_ticks(ticking)
        for slot in list(self._contexts.values()):
            if slot.context is not None:
                self.delete_context(slot.vm_slot, slot.context)
        for vm_slot in self._vms.values():
            if vm_slot.vm is not None:
                vm_slot.vm.close()
        self.engine.close()
        if self.sharing is not None:
            self.sharing.close()

    # --- queues and timers

    def _queue_ready(self, context: PluginContext, queue: int) -> None:
        try:
            context.queue_ready(queue)
        except VmFailed as failure:
            vm_slot = context.vm.observer
            assert isinstance(vm_slot, VmSlot)
            self.vm_failed(vm_slot, failure)

    def _foreign_event(self, context: PluginContext, function: int, arguments: bytes) -> None:
        self.loop.call_soon(self._foreign_function, context, function, arguments)

    def _foreign_function(self, context: PluginContext, function: int, arguments: bytes) -> None:
        if context.vm.failed is not None or context.vm.roots.get(context.id) is not context:
            return
        try:
            context.foreign_function(function, arguments)
        except VmFailed as failure:
            vm_slot = context.vm.observer
            assert isinstance(vm_slot, VmSlot)
            self.vm_failed(vm_slot, failure)

    def _stop_sharing(self, context: PluginContext) -> None:
        if self.sharing is not None:
            self.sharing.release(context)

    def set_tick_period(self, vm_slot: VmSlot, context: PluginContext, milliseconds: int) -> None:
        self._stop_ticks(context)
        if milliseconds:
            seconds = milliseconds / 1000
            self._ticks[context] = self.loop.call_later(seconds, self._tick, vm_slot, context, milliseconds)

    def _tick(self, vm_slot: VmSlot, context: PluginContext, milliseconds: int) -> None:
        """The next tick is set after this one ended, unless the plugin set another period meanwhile."""
        fired = self._ticks.get(context)
        try:
            context.tick()
        except VmFailed as failure:
            self.vm_failed(vm_slot, failure)
        if self._ticks.get(context) is fired and fired is not None and context.vm.failed is None:
            self.set_tick_period(vm_slot, context, milliseconds)

    def _stop_ticks(self, context: PluginContext) -> None:
        handle = self._ticks.pop(context, None)
        if handle is not None:
            handle.cancel()


def _module_key(plugin: WasmPlugin) -> ModuleKey:
    return plugin.sha256, plugin.capabilities
