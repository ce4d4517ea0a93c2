"""Replacing a plugin that works: the new one is started and configured before the old one lets go.

The law: a plugin that works is replaced by one that has started and taken every configuration that the old one has now, or not
at all. Its VM is made on the event loop, because that is where it will run, but one context at a time: requests get as long as
the context took. From the next snapshot on new streams begin there; old ones end where they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping

from data_plane.config.snapshot import PluginBinding, Snapshot, WasmPlugin
from data_plane.plugins.loading import bindings_of
from data_plane.plugins.slots import ContextSlot, SlotOwner, VmSlot
from shared.proxy_wasm.failures import EngineError, GuestTrap, PluginRefused, VmFailed
from shared.proxy_wasm.vm import PluginContext

# Contexts made before the swap, those in use first; more are made by the first request that needs them. A VM takes 4 to 8 ms to
# start and a context 0.02 ms to make (C, Rust and Go alike): some tens of milliseconds in all, and requests get as much again.
MOST_CONTEXTS = 1000

Vms = MutableMapping[WasmPlugin, VmSlot]
Contexts = MutableMapping[PluginBinding, ContextSlot]
# Where a context runs and with what: the same for the old plugin's binding and the new one's.
Place = tuple[str, bytes]


class Successor:
    """A plugin that is ready to take over."""

    __slots__ = ("contexts", "slot")

    def __init__(self, slot: VmSlot) -> None:
        self.slot = slot
        self.contexts: dict[Place, PluginContext] = {}


class Swaps:
    """`vms` and `contexts` are the runtime's own."""

    def __init__(self, runtime: SlotOwner, vms: Vms, contexts: Contexts) -> None:
        self._runtime = runtime
        self._vms = vms
        self._contexts = contexts
        self._snapshot: Snapshot | None = None
        self._successors: dict[WasmPlugin, Successor] = {}

    async def prepare(self, plugin: WasmPlugin) -> None:
        """Make the plugin ready if it replaces one that works. Raises ValueError when it cannot run as that one does."""
        served = self._snapshot
        before = None if served is None else served.plugins.get(plugin.name)
        if served is None or before is None or before is plugin or plugin in self._successors or not self._works(before):
            return
        bindings = sorted(bindings_of(served, {before}), key=self._is_idle)[:MOST_CONTEXTS]
        if bindings:
            self._successors[plugin] = await self._started(plugin, bindings)

    def take_over(self, snapshot: Snapshot) -> None:
        """The snapshot is served from now on: its bindings get the contexts that were made for them."""
        self._snapshot = snapshot
        successors, self._successors = self._successors, {}
        for plugin, successor in successors.items():
            if snapshot.plugins.get(plugin.name) is plugin:
                self._install(plugin, successor, snapshot)
            else:
                # Another version came before it took over.
                self._let_go(successor.slot)

    def close(self) -> None:
        for successor in self._successors.values():
            self._let_go(successor.slot)
        self._successors.clear()

    def _works(self, plugin: WasmPlugin) -> bool:
        """A VM that was never asked for is taken to work; one that failed, or refused every configuration, does not."""
        slot = self._vms.get(plugin)
        return slot is None or (slot.vm is not None and bool(slot.vm.roots))

    def _is_idle(self, binding: PluginBinding) -> bool:
        slot = self._contexts.get(binding)
        return slot is None or slot.context is None

    async def _started(self, plugin: WasmPlugin, bindings: list[PluginBinding]) -> Successor:
        successor = Successor(VmSlot(self._runtime, plugin))
        slot = successor.slot
        try:
            vm = slot.start()
            for binding in bindings:
                began = self._runtime.loop.time()
                successor.contexts[binding.owner, binding.configuration] = vm.create_root(binding.configuration)
                await asyncio.sleep(self._runtime.loop.time() - began)
        except (EngineError, VmFailed, PluginRefused, OverflowError) as error:
            if slot.vm is not None:
                self._runtime.vm_failed(slot, slot.vm.failed or slot.vm.fail(GuestTrap("not_replaced", str(error))))
            slot.record.note("not_replaced", str(error))
            raise ValueError(f"the new version does not run as the one in service does: {error}") from None
        except asyncio.CancelledError:
            self._let_go(slot)
            raise
        return successor

    def _install(self, plugin: WasmPlugin, successor: Successor, snapshot: Snapshot) -> None:
        slot, ready = successor.slot, successor.contexts
        self._vms[plugin] = slot
        for binding in bindings_of(snapshot, {plugin}):
            context = ready.pop((binding.owner, binding.configuration), None)
            if context is not None and context.vm is slot.vm:
                taken = self._contexts[binding] = ContextSlot(binding, slot)
                taken.context = context
        for context in ready.values():
            self._runtime.delete_context(slot, context)

    def _let_go(self, slot: VmSlot) -> None:
        """It was never in service, but its contexts may have begun something."""
        for context in [] if slot.vm is None else list(slot.vm.roots.values()):
            self._runtime.delete_context(slot, context)
