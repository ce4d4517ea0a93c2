"""One plugin VM's Store: trampolines, guest, glue and core, tied together and called.

The law: an `Instance` is called from one thread; any failure inside it is a `GuestTrap`, after which it must be closed, for
its state is unknown. The order of linking is link.py's.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import wasmtime
from wasmtime._instance import InstanceExports

from shared.proxy_wasm import link, wire
from shared.proxy_wasm.abi import AbiVersion
from shared.proxy_wasm.calls import CORE_INITIAL_PAGES, CORE_MAXIMUM_PAGES, PAGE, Core, Way, public_call
from shared.proxy_wasm.failures import EngineError, first_line
from shared.proxy_wasm.tap import Taps
from shared.proxy_wasm.trace.transcript import Transcript
from shared.proxy_wasm.watchdog import ENTRIES, WIRE, Watchdog

# All tables of a Store hold at most 8 times as many function references, 16 MiB; a large Go program has 30,000 functions.
MAX_TABLE_ELEMENTS = 1 << 18

Extern = wasmtime.Func | wasmtime.Memory | wasmtime.Table | wasmtime.Global | wasmtime.SharedMemory | wasmtime.Tag


class HostPort(Protocol):
    """What the core asks of Python while a call runs. Nothing here may raise or call into the instance's phases."""

    def op(self, code: int) -> int: ...

    def flush_logs(self) -> None: ...


@dataclass(frozen=True, slots=True)
class GuestModule:
    """A compiled plugin with what ties it to the core. Compiling is slow and may run in any thread; instances share the code.

    `functions` are its exported functions and their types; `start` is the one that stands for its start section, if it has one;
    `wire` is the memory by which it is cut.
    """

    module: wasmtime.Module
    version: AbiVersion
    functions: Mapping[str, str]
    allocator: str
    start: str
    wire: str
    jump: link.Trampolines
    entries: wasmtime.Module
    links: Mapping[str, str]
    glue: wasmtime.Module


class Instance:
    """One plugin VM's Store with its four instances, and the core's memory as Python sees it."""

    def __init__(
        self,
        wasm_engine: wasmtime.Engine,
        core: wasmtime.Module,
        guest: GuestModule,
        host: HostPort,
        memory_bytes: int,
        watchdog: Watchdog,
        rearm: Callable[[], None],
        *,
        way: Way,
        transcript: Transcript | None = None,
    ) -> None:
        self._watchdog = watchdog
        self._rearm = rearm
        self._closed = False
        self._store = wasmtime.Store(wasm_engine)
        memory_size = max(memory_bytes, CORE_INITIAL_PAGES * PAGE)
        instances = 4 if transcript is None else 6
        self._store.set_limits(memory_size, MAX_TABLE_ELEMENTS, instances=instances, tables=8, memories=3)
        self._transcript = transcript
        self._taps = None if transcript is None else Taps(wasm_engine, self._store, transcript)
        try:
            exports = self._link(core, guest, host)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            self._store.close()
            raise EngineError(first_line(error)) from None
        self.core = Core(self._store, self._memory, exports, watchdog, self._wire, rearm, way=way)

    def excused(self) -> AbstractContextManager[None]:
        """A time that does not count as the guest's."""
        return self._watchdog.excused()

    def mend(self) -> None:
        if not self._closed:
            wire.mend(self._wire)

    @property
    def memory_bytes(self) -> int:
        """The linear memories of guest and core; 0 once it is closed."""
        if self._closed:
            return 0
        guest = self._guest["memory"]
        assert isinstance(guest, wasmtime.Memory)
        return guest.data_len(self._store) + self._memory.data_len(self._store)

    def close(self) -> None:
        """Give everything back, whatever state it is in."""
        self._closed = True
        # Else a cut could come to memory that is no longer the wire.
        self._watchdog.settle()
        self.core.forget()
        self._store.close()

    def _link(self, core: wasmtime.Module, guest: GuestModule, host: HostPort) -> InstanceExports:
        store, jump, links = self._store, guest.jump, guest.links
        entries = wasmtime.Instance(store, guest.entries, []).exports(store)
        answers: list[Extern] = [entries[name] for name in jump.exports]
        if self._taps is not None:
            answers = [*self._taps.host_calls(guest.module, _functions(answers))]
        self._guest = wasmtime.Instance(store, guest.module, answers).exports(store)
        self._wire = self._address(guest.wire)
        self._start, self._functions = guest.start, guest.functions
        self.callbacks = frozenset(name for name, kind in links.items() if kind != "stub")
        memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(CORE_INITIAL_PAGES, CORE_MAXIMUM_PAGES)))
        shorts = [self._guest[name] for name in link.short_callbacks(links)]
        glue = wasmtime.Instance(store, guest.glue, [self._guest["memory"], memory, self._guest[guest.allocator], *shorts])
        self._memory = memory
        provided = self._host_functions(host)
        for name, export in glue.exports(store).items():
            provided["glue", name] = export
        for name in (n for n, kind in links.items() if kind == "guest"):
            provided["glue", name] = self._guest[name]
        if self._taps is not None:
            self._tap_callbacks(provided)
        provided["env", "memory"] = memory
        exports = wasmtime.Instance(store, core, [provided[i.module, i.name or ""] for i in core.imports]).exports(store)
        table = entries["table"]
        assert isinstance(table, wasmtime.Table)
        for slot, name in enumerate(jump.table):
            table.set(store, slot, exports[name])
        return exports

    def _address(self, memory: str) -> int:
        exported = self._guest[memory]
        assert isinstance(exported, wasmtime.Memory)
        return ctypes.addressof(exported.data_ptr(self._store).contents)

    def _tap_callbacks(self, provided: dict[tuple[str, str], Extern]) -> None:
        """The stubs of what the guest does not export are none of its callbacks."""
        assert self._taps is not None
        assert self._transcript is not None
        names = sorted(self.callbacks)
        targets = dict(zip(names, _functions([provided["glue", name] for name in names]), strict=True))
        for name, function in self._taps.callbacks(targets).items():
            provided["glue", name] = function
        self._transcript.bind(self.read_guest, time.perf_counter_ns, self._watchdog.excuse)

    def read_guest(self, address: int, size: int) -> bytes | None:
        """None out of range."""
        memory = self._guest["memory"]
        assert isinstance(memory, wasmtime.Memory)
        if address + size > memory.data_len(self._store):
            return None
        return bytes(memory.read(self._store, address, address + size))

    def _host_functions(self, host: HostPort) -> dict[tuple[str, str], Extern]:
        """Functions that the core imports from Python."""
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()

        def clock(clock_id: int) -> int:
            return time.monotonic_ns() if clock_id else time.time_ns()

        def random(address: int, size: int) -> None:
            self.core.fill(address & 0xFFFFFFFF, os.urandom(size))

        def function(types: wasmtime.FuncType, implementation: Callable[..., object]) -> wasmtime.Func:
            return wasmtime.Func(self._store, types, implementation)

        return {
            ("host", "op"): function(wasmtime.FuncType([i32], [i32]), host.op),
            ("host", "flush_logs"): function(wasmtime.FuncType([], []), host.flush_logs),
            ("host", "clock"): function(wasmtime.FuncType([i32], [i64]), clock),
            ("host", "random"): function(wasmtime.FuncType([i32, i32], []), random),
        }

    def start_guest(self, cpu_seconds: float) -> None:
        """The start section; then `_initialize` and a main function, or else `_start`, as in Envoy. Raises GuestTrap."""
        self._watchdog.limit = cpu_seconds
        if self._start:
            self._call_guest(self._start)
        if self._functions.get("_initialize") == ">":
            self._call_guest("_initialize")
            if self._functions.get("main") == "ii>i":
                self._call_guest("main", 0, 0)
            elif self._functions.get("__main_void") == ">i":
                self._call_guest("__main_void")
        elif self._functions.get("_start") == ">":
            self._call_guest("_start")

    def _call_guest(self, name: str, *arguments: int) -> None:
        function = self._guest[name]
        assert isinstance(function, wasmtime.Func)
        watchdog = self._watchdog
        if watchdog.fired:
            self._rearm()
        transcript = self._transcript
        if transcript is not None:
            transcript.enter_callback(name, arguments)
        watchdog.words[WIRE] = self._wire
        watchdog.words[ENTRIES] += 1
        try:
            public_call(self._store, watchdog, function, *arguments)
        finally:
            watchdog.words[ENTRIES] += 1
        if transcript is not None:
            transcript.leave(None)


def _functions(externs: Sequence[Extern]) -> list[wasmtime.Func]:
    return [extern for extern in externs if isinstance(extern, wasmtime.Func)]
