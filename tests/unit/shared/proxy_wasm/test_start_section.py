"""A start section becomes an export, whatever stands around it, and nothing else changes."""

from __future__ import annotations

import pytest
import wasmtime

from shared.proxy_wasm.binary import parse
from shared.proxy_wasm.start_section import expose_start


def module(exports: int, *parts: str) -> bytes:
    functions = "".join(f'(func (export "function {number}"))' for number in range(exports))
    return bytes(wasmtime.wat2wasm(f"(module {functions} {' '.join(parts)})"))


def exposed(data: bytes) -> tuple[bytes, str]:
    return expose_start(data, [export.name for export in parse(data).exports])


START = "(func $start) (start $start)"


@pytest.mark.parametrize("exports", [1, 5, 126, 127, 128, 300, 2000])
def test_the_start_function_is_exported_behind_the_others(exports: int) -> None:
    """The number of exports and the size of their section may need another byte."""
    before = module(exports, START)
    after, name = exposed(before)
    assert [export.name for export in parse(after).exports] == [*(e.name for e in parse(before).exports), name]
    assert parse(after).exports[-1].type == ">"
    wasmtime.Module.validate(wasmtime.Engine(), after)


def test_it_does_not_run_at_instantiation_any_more() -> None:
    data = module(1, "(func $start unreachable) (start $start)")
    store = wasmtime.Store()
    with pytest.raises(wasmtime.Trap):
        wasmtime.Instance(store, wasmtime.Module(store.engine, data), [])
    after, name = exposed(data)
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, after), [])
    start = instance.exports(store)[name]
    assert isinstance(start, wasmtime.Func)
    with pytest.raises(wasmtime.Trap):
        start(store)


def test_a_module_without_one_is_left_alone() -> None:
    data = module(3, "(memory 1)")
    assert exposed(data) == (data, "")


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    data = module(0, '(func (export "start section"))', '(func (export "start section\'"))', START)
    after, name = exposed(data)
    assert name == "start section''"
    wasmtime.Module.validate(wasmtime.Engine(), after)


def test_sections_behind_the_start_section_stay() -> None:
    data = module(1, START, '(memory 1) (data (i32.const 0) "kept") (table 2 funcref) (elem (i32.const 0) $start)')
    after, _ = exposed(data)
    wasmtime.Module.validate(wasmtime.Engine(), after)
    assert b"kept" in after


def test_an_imported_function_may_be_the_start() -> None:
    data = bytes(wasmtime.wat2wasm('(module (import "env" "f" (func $f)) (start $f) (memory (export "memory") 1))'))
    after, name = exposed(data)
    assert parse(after).exports[-1].name == name
    wasmtime.Module.validate(wasmtime.Engine(), after)
