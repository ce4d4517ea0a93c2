"""A wired module does what it did, looks up wherever it could go on for ever, and nowhere else."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator

import pytest
import wasmtime

from shared.proxy_wasm import wire
from shared.proxy_wasm.binary import UnknownInstruction, parse
from shared.proxy_wasm.instructions import places
from shared.proxy_wasm.sections import free_name
from shared.proxy_wasm.tripwire import NAME, wired

# i32.load8_u of a named memory: nothing in these texts has one.
LOOK = b"\x41\0\x2d\x40"


def binary(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def with_wire(data: bytes) -> bytes:
    return wired(data, len(parse(data).memories), NAME)


class Running:
    """A wired module, without a gateway around it."""

    def __init__(self, text: str) -> None:
        self.data = with_wire(binary(text))
        self.store = wasmtime.Store(engine())
        self._exports = wasmtime.Instance(self.store, wasmtime.Module(self.store.engine, self.data), []).exports(self.store)

    def call(self, name: str, *arguments: int) -> object:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self.store, *arguments)

    @property
    def wire(self) -> int:
        memory = self._exports[NAME]
        assert isinstance(memory, wasmtime.Memory)
        return ctypes.addressof(memory.data_ptr(self.store).contents)


def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    return wasmtime.Engine(config)


COUNTING = """(module (memory (export "memory") 1)
  (func (export "sum") (param $n i32) (result i32) (local $sum i32)
    (loop $more
      (local.set $sum (i32.add (local.get $sum) (local.get $n)))
      (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func $fib (export "fib") (param $n i32) (result i32)
    (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "for ever") (loop $again (br $again)))
  (func $chain (export "chain") (return_call $chain)))"""


def test_it_computes_what_it_did() -> None:
    running = Running(COUNTING)
    assert (running.call("sum", 1000), running.call("fib", 15)) == (500500, 610)


@pytest.fixture
def cutting() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.usefixtures("cutting")
@pytest.mark.parametrize(("name", "arguments"), [("for ever", ()), ("chain", ()), ("fib", (60,))])
def test_a_cut_ends_what_would_go_on_for_ever(name: str, arguments: tuple[int, ...]) -> None:
    running = Running(COUNTING)
    cutter = threading.Timer(0.05, wire.cut, (running.wire,))
    cutter.start()
    with pytest.raises(wasmtime.Trap) as trap:
        running.call(name, *arguments)
    cutter.join()
    assert trap.value.trap_code == wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS


def test_a_mended_wire_is_as_it_was() -> None:
    running = Running(COUNTING)
    wire.cut(running.wire)
    with pytest.raises(wasmtime.Trap):
        running.call("sum", 3)
    wire.mend(running.wire)
    assert running.call("sum", 3) == 6


def test_what_cannot_be_cut_is_said() -> None:
    with pytest.raises(OSError, match="a plugin's wire cannot be changed"):
        wire.cut(1)


# Every kind of immediate, each before a loop that would be missed if it were read wrongly.
INSTRUCTIONS = (
    "nop",
    "(block (br 0))",
    "(block (result i32) (i32.const 1)) drop",
    "(if (i32.const 300) (then nop) (else nop))",
    "(block (block (block (br_table 0 1 2 1 (i32.const 77)))))",
    "(call $nothing)",
    "(call_indirect (type $t) (i32.const 0))",
    "(drop (select (i32.const 1) (i32.const 2) (i32.const 3)))",
    "(drop (select (result i64) (i64.const 1) (i64.const 2) (i32.const 3)))",
    "(drop (local.get 0)) (local.set 0 (i32.const 3)) (drop (local.tee 0 (i32.const 3)))",
    "(global.set $g (global.get $g))",
    "(drop (table.get 0 (i32.const 0))) (table.set 0 (i32.const 0) (ref.null func))",
    "(drop (ref.is_null (ref.func $nothing)))",
    "(drop (i32.load offset=70000 (i32.const 3)))",
    "(i64.store8 offset=3 (i32.const 3) (i64.const 1099511627776))",
    "(drop (i32.load $second offset=129 (i32.const 3)))",
    "(drop (memory.grow (memory.size)))",
    "(drop (f32.const 3.5)) (drop (f64.const 3.5e100))",
    "(drop (i32.const -2147483648)) (drop (i64.const 0x0303030303030303))",
    "(drop (i32.extend8_s (i32.wrap_i64 (i64.extend16_s (i64.const 3)))))",
    "(drop (i32.trunc_sat_f32_u (f32.const 3)))",
    "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 0)) (data.drop $d)",
    "(memory.copy $second 0 (i32.const 3) (i32.const 3) (i32.const 3)) (memory.fill (i32.const 3) (i32.const 3) (i32.const 3))",
    "(table.init 0 $e (i32.const 3) (i32.const 3) (i32.const 3)) (elem.drop $e)",
    "(table.copy 0 0 (i32.const 3) (i32.const 3) (i32.const 3))",
    "(drop (table.grow 0 (ref.null func) (i32.const 3))) (drop (table.size 0))",
    "(table.fill 0 (i32.const 3) (ref.null func) (i32.const 3))",
    "(drop (v128.load offset=3 (i32.const 3))) (v128.store (i32.const 3) (v128.const i64x2 3 3))",
    "(drop (i8x16.shuffle 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 (v128.const i32x4 3 3 3 3) (v128.const i32x4 3 3 3 3)))",
    "(drop (i8x16.extract_lane_u 3 (v128.const i32x4 3 3 3 3)))",
    "(drop (f64x2.replace_lane 1 (v128.const i32x4 3 3 3 3) (f64.const 3)))",
    "(drop (v128.load8_lane offset=3 3 (i32.const 3) (v128.const i32x4 3 3 3 3)))",
    "(drop (v128.load32_zero offset=3 (i32.const 3))) (drop (v128.load64_splat (i32.const 3)))",
    "(drop (i32x4.dot_i16x8_s (v128.const i32x4 3 3 3 3) (v128.const i32x4 3 3 3 3)))",
    "(drop (i8x16.relaxed_swizzle (v128.const i32x4 3 3 3 3) (v128.const i32x4 3 3 3 3)))",
)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_every_kind_of_instruction_is_read_past(instruction: str) -> None:
    text = f"""(module (type $t (func)) (memory 1) (memory $second 1) (table 10 funcref) (global $g (mut i64) (i64.const 3))
      (func $nothing) (elem $e func $nothing) (elem declare func $nothing) (data $d "abc")
      (func (export "f") (local i32 f64) {instruction}
        (loop (br_if 0 (i32.const 0))) (loop (result i32) (i32.const 1)) drop))"""
    data = binary(text)
    after = with_wire(data)
    wasmtime.Module.validate(engine(), after)
    calls = "(call" in instruction
    assert after.count(LOOK) - data.count(LOOK) == 2 + calls


def test_what_calls_nothing_and_has_no_loop_looks_nowhere() -> None:
    data = binary('(module (func (export "f") (result i32) (i32.const 7)))')
    assert with_wire(data).count(LOOK) == 0


@pytest.mark.parametrize(
    "text",
    [
        '(module (func (export "f") (loop)))',
        '(module (table 1 funcref) (global i32 (i32.const 1)) (func (export "f") (loop)))',
        '(module (import "a" "m" (memory 1)) (func (export "f") (loop (drop (i32.load (i32.const 0))))))',
        '(module (import "a" "m" (memory 1)) (memory 2) (memory 3) (func (export "f") (loop (drop (memory.size 2)))))',
    ],
)
def test_a_module_with_any_memories_gets_one_more(text: str) -> None:
    data = binary(text)
    after = with_wire(data)
    wasmtime.Module.validate(engine(), after)
    assert len(parse(after).memories) == len(parse(data).memories) + 1
    assert [export.name for export in parse(after).exports] == ["f", NAME]


def test_a_name_that_is_taken() -> None:
    assert free_name(NAME, {NAME, NAME + "'"}) == NAME + "''"


@pytest.mark.parametrize("code", [b"\x06\x40", b"\xfe\x10", b"\xfc\x12", b"\xfd\x94\x02", b"\xd3", b"\x14\0"])
def test_an_unknown_instruction_is_refused(code: bytes) -> None:
    with pytest.raises(UnknownInstruction, match=f"the instruction 0x{code[0]:02x}"):
        places(b"\1" + code + b"\x0b", 0, len(code) + 2)
