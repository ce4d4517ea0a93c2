"""Calls into the core, and its memory: the path that every request takes.

The law: a stream's phase is one copy into the core's input region and one call. A call through wasmtime's public Python API
costs 14 to 28 us, because it reads the function's type every time; the raw call with preallocated arguments costs 0.5 us. That
is private API, so it lives here, with the public one as its fallback, and both pass the same contract tests.

Copies go through a memoryview of the core's memory, 0.1 us each; ctypes.memmove and string_at cost 0.5 us.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, cast

import wasmtime
from wasmtime import _bindings, _ffi
from wasmtime._instance import InstanceExports

from shared.proxy_wasm.failures import GuestTrap, first_line
from shared.proxy_wasm.watchdog import ENTRIES, FIRED, LIMIT, WIRE, Watchdog, microseconds

if TYPE_CHECKING:
    from shared.proxy_wasm.native_entry import Entry

# The core's own memory: 256 KiB of tables and rings, heads and bodies of live streams. Grows as needed up to the plugin's
# limit, but no plugin's limit may leave it less than this.
CORE_INITIAL_PAGES = 32
CORE_MAXIMUM_PAGES = 4096
PAGE = 65536

# A raw value is 16 bytes wide (it may hold a v128); an i32 is its first four.
MAX_ARGUMENTS = 4
_ARGUMENTS = struct.Struct("<" + "i12x" * MAX_ARGUMENTS)

# Where a core takes its input, how much fits there, and whether its memory is gone.
IO_ADDRESS, IO_SIZE, CLOSED = range(3)

# Of a trap's backtrace, in a log line.
FRAMES_NAMED, NAME_SHOWN = 4, 100

Call = Callable[..., int]
StreamCall = Callable[[bytes, int, int, int], int]
HeadCall = Callable[[bytes, int, int, int], "bytes | int"]


def _raw_call() -> Callable[..., int | None] | None:
    """Without declared argument types: ctypes passes c_void_p objects on as they are."""
    if not hasattr(_ffi.dll, "wasmtime_func_call_unchecked"):
        return None
    return ctypes.CFUNCTYPE(ctypes.c_void_p)(("wasmtime_func_call_unchecked", _ffi.dll))


def _native_entry() -> type[Entry] | None:
    """The same in C, where it was compiled: a phase in 0.3 us instead of 0.9."""
    try:
        from shared.proxy_wasm.native_entry import Entry
    except ImportError:
        return None
    return Entry


RAW_CALL = _raw_call()
NATIVE_ENTRY = _native_entry()


class Way(IntEnum):
    """How the core is called: by wasmtime's public function, by the raw one, or by the raw one from C."""

    PUBLIC = 0
    RAW = 1
    NATIVE = 2


BEST = Way.PUBLIC if RAW_CALL is None else Way.RAW if NATIVE_ENTRY is None else Way.NATIVE


class Core:
    """The core's exports as functions of ints (results are 32 bits, signed; none is 0), and its memory."""

    def __init__(
        self,
        store: wasmtime.Store,
        memory: wasmtime.Memory,
        exports: InstanceExports,
        watchdog: Watchdog,
        wire: int,
        rearm: Callable[[], None],
        *,
        way: Way,
    ) -> None:
        self._store = store
        self._exports = exports
        self._watchdog = watchdog
        self._wire = wire
        self._rearm = rearm
        self._way = way
        self._base = ctypes.addressof(memory.data_ptr(store).contents)
        # The whole reservation: the memory grows in place (Engine), and nothing reads beyond what the core gave out.
        self._bytes = memoryview((ctypes.c_char * (CORE_MAXIMUM_PAGES * PAGE)).from_address(self._base)).cast("B")
        self._views: list[memoryview] = []
        self._arguments = (_bindings.wasmtime_val_raw_t * MAX_ARGUMENTS)()
        self._trap = ctypes.c_void_p()
        self._io_place = (ctypes.c_int64 * 3)()
        self._io = memoryview(self._io_place).cast("B").cast("q")
        self._reserve = self.call("io_reserve", 1)

    # --- memory

    def write(self, data: bytes) -> None:
        """Put the data into the core's input region. Raises GuestTrap when the core has no room for it."""
        size = len(data)
        if size > self._io[IO_SIZE]:
            self._grow(size)
        at = self._io[IO_ADDRESS]
        self._bytes[at : at + size] = data

    def _grow(self, size: int) -> None:
        io = self._io
        io[IO_SIZE] = 0
        address = io[IO_ADDRESS] = self._reserve(size)
        if not address:
            raise GuestTrap("out_of_memory", f"no room for {size} bytes in the plugin's memory")
        io[IO_SIZE] = size

    def read(self, address: int, size: int) -> bytes:
        return self._bytes[address : address + size].tobytes()

    def fill(self, address: int, data: bytes) -> None:
        self._bytes[address : address + len(data)] = data

    def forget(self) -> None:
        """The memory is no longer there: whoever reads it after this is told so, instead of ending the process."""
        self._io[CLOSED] = 1
        for view in (*self._views, self._bytes):
            view.release()

    def word(self, address: int) -> memoryview[int]:
        """A 32-bit number of the core, as `view[0]`."""
        view = self._bytes[address : address + 4].cast("I")
        self._views.append(view)
        return view

    def reader(self, layout: struct.Struct, address: int) -> Callable[[], tuple[int, ...]]:
        """A function that unpacks a structure at a fixed address of the core."""
        view, unpack = self._bytes[address : address + layout.size], layout.unpack_from
        self._views.append(view)
        return lambda: unpack(view)

    # --- calls

    def stream_phase(self, name: str, cpu_seconds: float, arity: int = 4) -> StreamCall:
        """`(input, a, b, flags)` calls the export with the first `arity` of (a, b, size of the input, flags) under a CPU
        limit. Raises GuestTrap.
        """
        if self._way == Way.PUBLIC or RAW_CALL is None:
            call = self.phase(name, arity, cpu_seconds)

            def run_public(data: bytes, a: int, b: int, flags: int) -> int:
                self.write(data)
                return call(a, b, len(data), flags)

            return run_public
        if self._way == Way.NATIVE and NATIVE_ENTRY is not None:
            return cast(StreamCall, self._native(NATIVE_ENTRY, name, arity, cpu_seconds, 0))
        invoke, (context, target, raw, count, trap_pointer) = RAW_CALL, self._addresses(name, arity)
        arguments = memoryview(self._arguments).cast("B")
        answer, pack, trap = arguments.cast("i"), _ARGUMENTS.pack_into, self._trap
        watch, limit, wire = self._watchdog.words, microseconds(cpu_seconds), self._wire
        memory, at = self._bytes, self._io

        def run(data: bytes, a: int, b: int, flags: int) -> int:
            size = len(data)
            if watch[FIRED]:
                self._rearm()
            if size > at[IO_SIZE]:
                self._grow(size)
            io = at[IO_ADDRESS]
            memory[io : io + size] = data
            pack(arguments, 0, a, b, size, flags)
            watch[LIMIT] = limit
            watch[WIRE] = wire
            watch[ENTRIES] += 1
            error = invoke(context, target, raw, count, trap_pointer)
            watch[ENTRIES] += 1
            if error or trap.value:
                self._fail(error)
            return answer[0]

        return run

    def head_phase(self, name: str, cpu_seconds: float, out_address: int) -> HeadCall:
        """As `stream_phase` of an export with four arguments that answers how many bytes it put where the word at `out_address`
        points: these bytes, or an answer below 0 as it is. The same twice, because a call in between costs each head 0.2 us.
        """
        out = self.word(out_address)
        if self._way == Way.PUBLIC or RAW_CALL is None:
            call = self.phase(name, 4, cpu_seconds)

            def run_public(data: bytes, a: int, b: int, flags: int) -> bytes | int:
                self.write(data)
                size = call(a, b, len(data), flags)
                return size if size < 0 else self.read(out[0], size)

            return run_public
        if self._way == Way.NATIVE and NATIVE_ENTRY is not None:
            return self._native(NATIVE_ENTRY, name, 4, cpu_seconds, self._base + out_address)
        invoke, (context, target, raw, count, trap_pointer) = RAW_CALL, self._addresses(name, 4)
        arguments = memoryview(self._arguments).cast("B")
        answer, pack, trap = arguments.cast("i"), _ARGUMENTS.pack_into, self._trap
        watch, limit, wire = self._watchdog.words, microseconds(cpu_seconds), self._wire
        memory, at = self._bytes, self._io

        def run(data: bytes, a: int, b: int, flags: int) -> bytes | int:
            size = len(data)
            if watch[FIRED]:
                self._rearm()
            if size > at[IO_SIZE]:
                self._grow(size)
            io = at[IO_ADDRESS]
            memory[io : io + size] = data
            pack(arguments, 0, a, b, size, flags)
            watch[LIMIT] = limit
            watch[WIRE] = wire
            watch[ENTRIES] += 1
            error = invoke(context, target, raw, count, trap_pointer)
            watch[ENTRIES] += 1
            if error or trap.value:
                self._fail(error)
            size = answer[0]
            if size > 0:
                start = out[0]
                return memory[start : start + size].tobytes()
            return size or b""

        return run

    def _native(self, entry: type[Entry], name: str, arity: int, cpu_seconds: float, out: int) -> Entry:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        context = self._store._context()
        return entry(
            invoke=ctypes.cast(_ffi.dll.wasmtime_func_call_unchecked, ctypes.c_void_p).value or 0,
            context=ctypes.cast(context, ctypes.c_void_p).value or 0,
            function=ctypes.addressof(function._func),
            values=ctypes.addressof(self._arguments),
            count=max(arity, 1),
            trap=ctypes.addressof(self._trap),
            memory=self._base,
            memory_size=CORE_MAXIMUM_PAGES * PAGE,
            watch=ctypes.addressof(self._watchdog.place),
            io=ctypes.addressof(self._io_place),
            out=out,
            limit=microseconds(cpu_seconds),
            wire=self._wire,
            rearm=self._rearm,
            grow=self._grow,
            fail=self._fail,
            keep=(function, self._arguments, self._trap, self._watchdog.place, self._io_place),
        )

    def phase(self, name: str, arity: int, cpu_seconds: float) -> Call:
        """A core export that enters the guest, under a CPU limit. Raises GuestTrap."""
        invoke, watch, limit = self._caller(name, arity), self._watchdog.words, microseconds(cpu_seconds)
        wire = self._wire

        def run(a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
            if watch[FIRED]:
                self._rearm()
            watch[LIMIT] = limit
            watch[WIRE] = wire
            watch[ENTRIES] += 1
            try:
                return invoke(a, b, c, d)
            finally:
                watch[ENTRIES] += 1

        return run

    def call(self, name: str, arity: int) -> Call:
        """A core export that never enters the guest: it may be called while a phase runs, and does not extend its time."""
        invoke, watch = self._caller(name, arity), self._watchdog.words

        def run(a: int = 0, b: int = 0, c: int = 0) -> int:
            if watch[FIRED] and not watch[ENTRIES] & 1:
                self._rearm()
            return invoke(a, b, c, 0)

        return run

    def _caller(self, name: str, arity: int) -> Call:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        if self._way == Way.PUBLIC or RAW_CALL is None:
            return lambda *values: public_call(self._store, self._watchdog, function, *values[:arity])
        invoke, (context, target, raw, count, trap_pointer) = RAW_CALL, self._addresses(name, arity)
        arguments = memoryview(self._arguments).cast("B")
        answer, pack, trap = arguments.cast("i"), _ARGUMENTS.pack_into, self._trap
        # What stands there after an export without a result is the first argument.
        has_result = bool(function.type(self._store).results)

        def call(a: int, b: int, c: int, d: int) -> int:
            pack(arguments, 0, a, b, c, d)
            error = invoke(context, target, raw, count, trap_pointer)
            if error or trap.value:
                self._fail(error)
            return answer[0] if has_result else 0

        return call

    def _addresses(self, name: str, arity: int) -> tuple[ctypes.c_void_p | ctypes.c_size_t, ...]:
        """What the raw call takes: store context, function, arguments, their number, where a trap is put."""
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return (
            ctypes.cast(self._store._context(), ctypes.c_void_p),
            ctypes.cast(ctypes.pointer(function._func), ctypes.c_void_p),
            ctypes.cast(self._arguments, ctypes.c_void_p),
            ctypes.c_size_t(max(arity, 1)),
            ctypes.cast(ctypes.pointer(self._trap), ctypes.c_void_p),
        )

    def _fail(self, error: int | None) -> None:
        address, self._trap.value = self._trap.value, None
        if address:
            pointer = ctypes.cast(address, ctypes.POINTER(_ffi.wasm_trap_t))
            raise guest_trap(wasmtime.Trap._from_ptr(pointer), self._watchdog.fired)
        pointer_ = ctypes.cast(ctypes.c_void_p(error), ctypes.POINTER(_ffi.wasmtime_error_t))
        raise GuestTrap("host", first_line(wasmtime.WasmtimeError._from_ptr(pointer_)))


def public_call(store: wasmtime.Store, watchdog: Watchdog, function: wasmtime.Func, *arguments: int) -> int:
    try:
        result = function(store, *arguments)
    except wasmtime.Trap as trap:
        raise guest_trap(trap, watchdog.fired) from None
    except Exception as error:  # wasmtime's own, or what a host function raised
        raise GuestTrap("host", f"{type(error).__name__}: {first_line(error)}") from error
    return result if isinstance(result, int) else 0


def guest_trap(trap: wasmtime.Trap, cut: bool) -> GuestTrap:
    """In one line: what happened, and in which functions of the plugin, innermost first. `cut`: its wire is."""
    code = trap.trap_code
    reason = str(trap.message).strip().rpartition("\n")[2].strip().removeprefix("wasm trap: ")
    if cut and code == wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS:
        code, reason = wasmtime.TrapCode.INTERRUPT, "interrupt"
    names = [frame.func_name or f"function {frame.func_index}" for frame in trap.frames[:FRAMES_NAMED]]
    where = f" in {' < '.join(name[:NAME_SHOWN] for name in names)}" if names else ""
    return GuestTrap(code.name.lower() if code is not None else "host", reason + where)
