"""The only file that knows wasmtime: compiled modules, one Store per plugin VM, raw calls and CPU deadlines.

The law: an `Instance` is called from one thread; any failure inside it is a `GuestTrap`, after which it must be closed, for
its state is unknown. A call blocks its thread, so a watchdog thread cuts it after its CPU time (the thread's own clock: a
worker that the machine does not schedule kills nobody).

A call through wasmtime's public Python API costs 14 to 28 us, because it reads the function's type every time; the raw call
with preallocated arguments costs 0.6 us. It is private API, so it lives here, and the public one is its tested fallback.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import wasmtime
from wasmtime import _bindings, _ffi

from shared.proxy_wasm import link
from shared.proxy_wasm.abi import AbiVersion
from shared.proxy_wasm.binary import Binary, CorruptModule, parse
from shared.proxy_wasm.core_build import ensure_core
from shared.proxy_wasm.failures import EngineError, GuestTrap
from shared.proxy_wasm.inspect import inspect
from shared.proxy_wasm.start_section import expose_start
from shared.proxy_wasm.watchdog import Watchdog

# The core's own memory: 256 KiB of tables and rings, heads and bodies of live streams. Grows as needed up to the plugin's
# limit, but no plugin's limit may leave it less than this.
CORE_INITIAL_PAGES = 32
CORE_MAXIMUM_PAGES = 4096
PAGE = 65536

# Deep recursion is a trap in under a millisecond with this stack; wasmtime's own default.
MAX_WASM_STACK = 512 * 1024

# All tables of a Store hold at most 8 times as many function references, 16 MiB; a large Go program has 30,000 functions.
MAX_TABLE_ELEMENTS = 1 << 18

MAX_ARGUMENTS = 8

# Of a trap's backtrace, in a log line.
FRAMES_NAMED, NAME_SHOWN = 4, 100

Call = Callable[..., int]
Extern = wasmtime.Func | wasmtime.Memory | wasmtime.Table | wasmtime.Global | wasmtime.SharedMemory | wasmtime.Tag


class HostPort(Protocol):
    """What the core asks of Python while a call runs. Nothing here may raise or call into the instance's phases."""

    def op(self, code: int) -> int: ...

    def flush_logs(self) -> None: ...


@dataclass(frozen=True, slots=True)
class GuestModule:
    """A compiled plugin. Compiling is slow and may run in any thread; instances share the code. `start` is the export that
    stands for the module's start section, if it has one."""

    module: wasmtime.Module
    binary: Binary
    version: AbiVersion
    allocator: str
    start: str = ""


class Engine:
    """One for each process: the compiler, the compiled core and the watchdog.

    `cache_directory` keeps compiled code across processes. `raw` False takes the public call path.
    """

    def __init__(self, cache_directory: Path | None = None, *, raw: bool = True) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.max_wasm_stack = MAX_WASM_STACK
        config.wasm_multi_memory = True
        config.wasm_bulk_memory = True
        for feature in ("wasm_threads", "wasm_memory64", "wasm_exceptions", "wasm_component_model", "wasm_gc"):
            setattr(config, feature, False)
        # Addresses in the core's memory are kept in Python: it must stay where it is when it grows.
        config.memory_may_move = False
        if cache_directory is not None:
            config.cache = str(_cache_configuration(cache_directory))
        self.raw = raw and _RAW_CALL is not None
        self._engine = wasmtime.Engine(config)
        self._core = wasmtime.Module(self._engine, ensure_core().read_bytes())
        self._core_exports = tuple(export.name for export in self._core.exports)
        self.watchdog = Watchdog(self._engine.increment_epoch)
        self._instances: weakref.WeakSet[Instance] = weakref.WeakSet()

    def close(self) -> None:
        self.watchdog.stop()

    def validate(self, data: bytes) -> None:
        """Raises CorruptModule when the bytes are no valid module for this engine."""
        try:
            wasmtime.Module.validate(self._engine, data)
        except wasmtime.WasmtimeError as error:
            raise CorruptModule(f"not a valid Wasm module: {_first_line(error)}") from None

    def compile(self, data: bytes) -> GuestModule:
        """Raises ModuleError (not a plugin) or EngineError (does not link or compile)."""
        report = inspect(data)
        binary = parse(data)
        try:
            exposed, start = expose_start(data, [export.name for export in binary.exports])
            module = wasmtime.Module(self._engine, exposed)
        except wasmtime.WasmtimeError as error:
            raise CorruptModule(f"not a valid Wasm module: {_first_line(error)}") from None
        version = next(version for version in AbiVersion if str(version) == report.abi_version)
        return GuestModule(module, binary, version, report.allocator, start)

    def instantiate(self, guest: GuestModule, host: HostPort, memory_bytes: int) -> Instance:
        """Nothing of the guest runs yet. Raises EngineError when it does not link or fit."""
        self.watchdog.start()
        self.rearm()
        instance = Instance(self, self._engine, self._core, self._core_exports, guest, host, memory_bytes)
        self._instances.add(instance)
        return instance

    def forget(self, instance: Instance) -> None:
        self._instances.discard(instance)

    def rearm(self) -> None:
        """After an interruption every other Store's deadline has passed as well: move them all on."""
        self.watchdog.rearmed(self._arm_all)

    def _arm_all(self) -> None:
        for instance in self._instances:
            instance.arm()


class Instance:
    """One plugin VM's Store with its four instances, and the core's memory as Python sees it."""

    def __init__(
        self,
        engine: Engine,
        wasm_engine: wasmtime.Engine,
        core: wasmtime.Module,
        core_exports: tuple[str, ...],
        guest: GuestModule,
        host: HostPort,
        memory_bytes: int,
    ) -> None:
        self.engine = engine
        self._store = wasmtime.Store(wasm_engine)
        memory_size = max(memory_bytes, CORE_INITIAL_PAGES * PAGE)
        self._store.set_limits(memory_size, MAX_TABLE_ELEMENTS, instances=4, tables=8, memories=2)
        self.arm()
        try:
            self._link(wasm_engine, core, core_exports, guest, host)
        except (wasmtime.WasmtimeError, wasmtime.Trap, link.LinkError) as error:
            self._store.close()
            raise EngineError(_first_line(error)) from None
        self._prepare_calls()
        self._io, self._io_size = 0, 0
        self._reserve = self.core_call("io_reserve", 1)

    def arm(self) -> None:
        self._store.set_epoch_deadline(1)

    def close(self) -> None:
        """Give everything back, whatever state it is in."""
        self.engine.forget(self)
        self._store.close()

    def _link(
        self,
        engine: wasmtime.Engine,
        core: wasmtime.Module,
        core_exports: tuple[str, ...],
        guest: GuestModule,
        host: HostPort,
    ) -> None:
        store = self._store
        wanted = [link.FunctionImport(i.module, i.name, i.type) for i in guest.binary.imports]
        jump = link.trampolines(wanted, core_exports)
        entries = wasmtime.Instance(store, wasmtime.Module(engine, jump.wat), []).exports(store)
        self._guest = wasmtime.Instance(store, guest.module, [entries[name] for name in jump.exports]).exports(store)
        self._start = guest.start
        self._functions = {e.name: e.type for e in guest.binary.exports if e.kind == "func"}
        links = link.callback_links(self._functions, guest.version)
        self.callbacks = frozenset(name for name, kind in links.items() if kind != "stub")
        memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(CORE_INITIAL_PAGES, CORE_MAXIMUM_PAGES)))
        glue_module = wasmtime.Module(engine, link.glue(links, guest.allocator))
        shorts = [self._guest[name] for name in link.short_callbacks(links)]
        glue = wasmtime.Instance(store, glue_module, [self._guest["memory"], memory, self._guest[guest.allocator], *shorts])
        self._memory = memory
        self._base = ctypes.addressof(memory.data_ptr(store).contents)
        provided = self._host_functions(host)
        for name, export in glue.exports(store).items():
            provided["glue", name] = export
        for name in (n for n, kind in links.items() if kind == "guest"):
            provided["glue", name] = self._guest[name]
        provided["env", "memory"] = memory
        self._core = wasmtime.Instance(store, core, [provided[i.module, i.name or ""] for i in core.imports]).exports(store)
        table = entries["table"]
        assert isinstance(table, wasmtime.Table)
        for slot, name in enumerate(jump.table):
            table.set(store, slot, self._core[name])

    def _host_functions(self, host: HostPort) -> dict[tuple[str, str], Extern]:
        """Functions that the core imports from Python."""
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()

        def clock(clock_id: int) -> int:
            return time.monotonic_ns() if clock_id else time.time_ns()

        def random(address: int, size: int) -> None:
            ctypes.memmove(self._base + (address & 0xFFFFFFFF), os.urandom(size), size)

        def function(types: wasmtime.FuncType, implementation: Callable[..., object]) -> wasmtime.Func:
            return wasmtime.Func(self._store, types, implementation)

        return {
            ("host", "op"): function(wasmtime.FuncType([i32], [i32]), host.op),
            ("host", "flush_logs"): function(wasmtime.FuncType([], []), host.flush_logs),
            ("host", "clock"): function(wasmtime.FuncType([i32], [i64]), clock),
            ("host", "random"): function(wasmtime.FuncType([i32, i32], []), random),
        }

    # --- memory of the core

    def write(self, data: bytes) -> None:
        """Put the data into the core's input region. Raises GuestTrap when the core has no room for it."""
        size = len(data)
        if size > self._io_size:
            self._io = self._reserve(size)
            if not self._io:
                self._io_size = 0
                raise GuestTrap("out_of_memory", f"no room for {size} bytes in the plugin's memory")
            self._io_size = size
        ctypes.memmove(self._base + self._io, data, size)

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(self._base + address, size)

    def read32(self, address: int) -> int:
        return ctypes.c_uint32.from_address(self._base + address).value

    def write32(self, address: int, value: int) -> None:
        ctypes.c_uint32.from_address(self._base + address).value = value

    def reader(self, layout: struct.Struct, address: int) -> Callable[[], tuple[int, ...]]:
        """A function that unpacks a structure at a fixed address of the core."""
        view = memoryview((ctypes.c_char * layout.size).from_address(self._base + address)).cast("B")
        unpack = layout.unpack_from
        return lambda: unpack(view)

    # --- calls

    def _prepare_calls(self) -> None:
        self._arguments = (_bindings.wasmtime_val_raw_t * MAX_ARGUMENTS)()
        self._trap = ctypes.c_void_p()

    def phase(self, name: str, arity: int, cpu_seconds: float) -> Call:
        """A core export that enters the guest, as a function of ints under a CPU limit.

        Results are 32 bits, signed; none is 0. Raises GuestTrap.
        """
        invoke, watchdog, rearm = self._caller(name, arity), self.engine.watchdog, self.engine.rearm

        def call(a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
            if watchdog.fired:
                rearm()
            watchdog.limit = cpu_seconds
            watchdog.entries += 1
            try:
                return invoke(a, b, c, d)
            finally:
                watchdog.entries += 1

        return call

    def core_call(self, name: str, arity: int) -> Call:
        """A core export that never enters the guest: it may be called while a phase runs, and does not extend its time."""
        invoke, watchdog, rearm = self._caller(name, arity), self.engine.watchdog, self.engine.rearm

        def call(a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
            if watchdog.fired and not watchdog.entries & 1:
                rearm()
            return invoke(a, b, c, d)

        return call

    def _caller(self, name: str, arity: int) -> Call:
        function = self._core[name]
        assert isinstance(function, wasmtime.Func)
        if self.engine.raw and _RAW_CALL is not None:
            return self._raw_call(_RAW_CALL, function, arity)
        return lambda *arguments: self._public_call(function, *arguments[:arity])

    def _raw_call(self, invoke: Callable[..., int | None], function: wasmtime.Func, arity: int) -> Call:
        context = ctypes.cast(self._store._context(), ctypes.c_void_p).value
        target = ctypes.addressof(function._func)
        raw = ctypes.addressof(self._arguments)
        trap, trap_pointer, fail = self._trap, ctypes.addressof(self._trap), self._fail
        # A raw value is 16 bytes wide (it may hold a v128); an i32 is its first four.
        values = (ctypes.c_int32 * (4 * MAX_ARGUMENTS)).from_address(raw)
        slots = max(arity, 1)

        def call(a: int, b: int, c: int, d: int) -> int:
            values[0] = a
            values[4] = b
            values[8] = c
            values[12] = d
            error = invoke(context, target, raw, slots, trap_pointer)
            if error or trap.value:
                fail(error)
            return values[0]

        call.keep = (function, self._arguments)  # type: ignore[attr-defined]  # the addresses above point into these
        return call

    def _public_call(self, function: wasmtime.Func, *arguments: int) -> int:
        try:
            result = function(self._store, *arguments)
        except wasmtime.Trap as trap:
            raise _guest_trap(trap) from None
        except Exception as error:  # wasmtime's own, or what a host function raised
            raise GuestTrap("host", f"{type(error).__name__}: {_first_line(error)}") from error
        return result if isinstance(result, int) else 0

    def _fail(self, error: int | None) -> None:
        address, self._trap.value = self._trap.value, None
        if address:
            pointer = ctypes.cast(address, ctypes.POINTER(_ffi.wasm_trap_t))
            raise _guest_trap(wasmtime.Trap._from_ptr(pointer))
        pointer_ = ctypes.cast(ctypes.c_void_p(error), ctypes.POINTER(_ffi.wasmtime_error_t))
        raise GuestTrap("host", _first_line(wasmtime.WasmtimeError._from_ptr(pointer_)))

    def start_guest(self, cpu_seconds: float) -> None:
        """The start section; then `_initialize` and `main`, or else `_start`, as Envoy's host does. Raises GuestTrap."""
        self.engine.watchdog.limit = cpu_seconds
        if self._start:
            self._call_guest(self._start)
        if self._functions.get("_initialize") == ">":
            self._call_guest("_initialize")
            if self._functions.get("main") == "ii>i":
                self._call_guest("main", 0, 0)
        elif self._functions.get("_start") == ">":
            self._call_guest("_start")

    def _call_guest(self, name: str, *arguments: int) -> None:
        function = self._guest[name]
        assert isinstance(function, wasmtime.Func)
        watchdog = self.engine.watchdog
        if watchdog.fired:
            self.engine.rearm()
        watchdog.entries += 1
        try:
            self._public_call(function, *arguments)
        finally:
            watchdog.entries += 1


def _raw_call_prototype() -> Callable[..., int | None] | None:
    if not hasattr(_ffi.dll, "wasmtime_func_call_unchecked"):
        return None
    pointer = ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(pointer, pointer, pointer, pointer, ctypes.c_size_t, pointer)
    return prototype(("wasmtime_func_call_unchecked", _ffi.dll))


_RAW_CALL = _raw_call_prototype()


def _guest_trap(trap: wasmtime.Trap) -> GuestTrap:
    """In one line: what happened, and in which functions of the plugin, innermost first."""
    code = trap.trap_code
    reason = str(trap.message).strip().rpartition("\n")[2].strip().removeprefix("wasm trap: ")
    names = [frame.func_name or f"function {frame.func_index}" for frame in trap.frames[:FRAMES_NAMED]]
    where = f" in {' < '.join(name[:NAME_SHOWN] for name in names)}" if names else ""
    return GuestTrap(code.name.lower() if code is not None else "host", reason + where)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _cache_configuration(directory: Path) -> Path:
    """wasmtime takes its cache's settings from a file only."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "cache.toml"
    path.write_text(f'[cache]\ndirectory = "{(directory / "modules").resolve()}"\n')
    return path
