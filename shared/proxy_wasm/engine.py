"""The compiler of one process: plugins and the core as compiled modules, and the instances made of them.

The law: wasmtime is known to this file, instance.py and calls.py, and to nobody else. A call blocks its thread, so a watchdog
thread cuts its plugin's wire after its CPU time (tripwire.py); when it has, the wires are mended before the next call.
"""

from __future__ import annotations

import platform
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import wasmtime

from shared.proxy_wasm import link
from shared.proxy_wasm.abi import AbiVersion
from shared.proxy_wasm.binary import CorruptModule, parse
from shared.proxy_wasm.calls import BEST, Way
from shared.proxy_wasm.capabilities import denied
from shared.proxy_wasm.code_cache import CodeCache
from shared.proxy_wasm.core_build import ensure_core
from shared.proxy_wasm.failures import EngineError, first_line
from shared.proxy_wasm.foreign.envoy import load_libraries
from shared.proxy_wasm.inspect import inspect
from shared.proxy_wasm.instance import GuestModule, HostPort, Instance
from shared.proxy_wasm.sections import free_name
from shared.proxy_wasm.start_section import expose_start
from shared.proxy_wasm.trace.transcript import Transcript
from shared.proxy_wasm.tripwire import NAME, wired
from shared.proxy_wasm.watchdog import Watchdog
from shared.proxy_wasm.wire import cut

# Deep recursion is a trap in under a millisecond with this stack; wasmtime's own default.
MAX_WASM_STACK = 512 * 1024
# What compiled code is for, beside the settings below, which wasmtime compares.
_COMPILER = f"wasmtime {version('wasmtime')} {platform.machine()} wire 1"


class Engine:
    """One for each process: the compiler, the compiled core and the watchdog.

    `cache_directory` keeps compiled code across processes (CodeCacheError when it cannot). `way` is how its VMs are
    called, as fast as this machine can by default.
    """

    def __init__(self, cache_directory: Path | None = None, *, way: Way = BEST) -> None:
        config = wasmtime.Config()
        config.max_wasm_stack = MAX_WASM_STACK
        config.wasm_multi_memory = True
        config.wasm_bulk_memory = True
        for feature in ("wasm_threads", "wasm_memory64", "wasm_exceptions", "wasm_component_model", "wasm_gc"):
            setattr(config, feature, False)
        # Addresses in the core's memory are kept in Python: it must stay where it is when it grows.
        config.memory_may_move = False
        self._way = min(way, BEST)
        self._engine = wasmtime.Engine(config)
        self._cache = None if cache_directory is None else CodeCache(cache_directory, _COMPILER)
        self._core = self._module(ensure_core().read_bytes())
        self.watchdog = Watchdog(cut)
        self._instances: weakref.WeakSet[Instance] = weakref.WeakSet()

    def close(self) -> None:
        self.watchdog.stop()

    def validate(self, data: bytes) -> None:
        """Raises CorruptModule when the bytes are no valid module for this engine."""
        try:
            wasmtime.Module.validate(self._engine, data)
        except wasmtime.WasmtimeError as error:
            raise CorruptModule(f"not a valid Wasm module: {first_line(error)}") from None

    def compile(self, data: bytes, capabilities: frozenset[str] | None = None) -> GuestModule:
        """Raises ModuleError (not a plugin) or EngineError (does not link or compile). `capabilities`: an allow-list."""
        report = inspect(data)
        binary = parse(data)
        names = {export.name for export in binary.exports}
        exposed, start = expose_start(data, names)
        wire = free_name(NAME, names)
        try:
            module = self._module(exposed, lambda: self._wired(exposed, len(binary.memories), wire))
        except wasmtime.WasmtimeError as error:
            raise CorruptModule(f"not a valid Wasm module: {first_line(error)}") from None
        abi = next(abi for abi in AbiVersion if str(abi) == report.abi_version)
        functions = {export.name: export.type for export in binary.exports if export.kind == "func"}
        refused = denied(capabilities)
        links = link.callback_links(functions, abi, refused)
        wanted = [link.FunctionImport(item.module, item.name, item.type) for item in binary.imports]
        try:
            jump = link.trampolines(wanted, [export.name for export in self._core.exports], refused)
        except link.LinkError as error:
            raise EngineError(str(error)) from None
        if "proxy_call_foreign_function" in jump.table:
            load_libraries()
        entries, glue = (
            self._module(bytes(wasmtime.wat2wasm(text))) for text in (jump.wat, link.glue(links, report.allocator))
        )
        return GuestModule(module, abi, functions, report.allocator, start, wire, jump, entries, links, glue)

    def _wired(self, exposed: bytes, memories: int, wire: str) -> bytes:
        """Raises CorruptModule, UnknownInstruction."""
        self.validate(exposed)
        return wired(exposed, memories, wire)

    def _module(self, wasm: bytes, changed: Callable[[], bytes] | None = None) -> wasmtime.Module:
        """Compiled, perhaps `changed` before, or as it was compiled before. Raises WasmtimeError."""
        code = None if self._cache is None else self._cache.get(wasm)
        if code is not None:
            # wasmtime itself refuses what another version or another kind of processor has made.
            with suppress(wasmtime.WasmtimeError):
                return wasmtime.Module.deserialize(self._engine, code)
        module = wasmtime.Module(self._engine, wasm if changed is None else changed())
        if self._cache is not None:
            self._cache.put(wasm, bytes(module.serialize()))
        return module

    def instantiate(
        self, guest: GuestModule, host: HostPort, memory_bytes: int, transcript: Transcript | None = None
    ) -> Instance:
        """Nothing of the guest runs yet. Raises EngineError when it does not link or fit. With a transcript it is traced."""
        self.watchdog.start()
        self.rearm()
        instance = Instance(
            self._engine, self._core, guest, host, memory_bytes, self.watchdog, self.rearm, way=self._way, transcript=transcript
        )
        self._instances.add(instance)
        return instance

    def rearm(self) -> None:
        """After a cut: the plugin may have ended its call in time all the same."""
        self.watchdog.rearmed(self._mend_all)

    def _mend_all(self) -> None:
        for instance in self._instances:
            instance.mend()
