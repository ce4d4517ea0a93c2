"""What inspection finds in a module, and what it refuses."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.abi import CALLBACKS, HOST_FUNCTIONS, WASI_FUNCTIONS
from shared.proxy_wasm.inspect import (
    CorruptModule,
    MissingAbi,
    MissingAllocator,
    ModuleError,
    ModuleReport,
    UnknownAbi,
    UnknownImports,
    UnsuitableMemory,
    inspect,
    signature,
)
from tests.support.guests import GUEST, assemble

WASM = assemble()
TYPES = {"i": "i32", "I": "i64", "F": "f64"}


def text_type(letters: str) -> str:
    parameters, _, results = letters.partition(">")
    return f"(param {' '.join(TYPES[x] for x in parameters)}) (result {' '.join(TYPES[x] for x in results)})"


def test_a_good_module_is_reported() -> None:
    assert inspect(WASM) == ModuleReport(
        sha256=hashlib.sha256(WASM).hexdigest(),
        size=len(WASM),
        name="",
        abi_version="0.2.1",
        callbacks=("proxy_on_context_create", "proxy_on_request_headers"),
        host_functions=("proxy_log",),
        wasi_functions=("fd_write",),
        toolchain_functions=(),
        allocator="proxy_on_memory_allocate",
        memory_minimum_pages=1,
        memory_maximum_pages=4,
        mistyped_exports=(),
    )


def test_the_name_section_names_the_module() -> None:
    assert inspect(assemble(GUEST.replace("(module", "(module $greeting", 1))).name == "greeting"


def test_everything_in_the_tables_links() -> None:
    imports = [f'(import "env" "{name}" (func {text_type(t)}))' for name, t in HOST_FUNCTIONS.items()]
    imports += [
        f'(import "{module}" "{name}" (func {text_type(t)}))'
        for module in ("wasi_snapshot_preview1", "wasi_unstable")
        for name, (t, _) in WASI_FUNCTIONS.items()
    ]
    exports = [f'(func (export "{name}") {text_type(callback.type)} unreachable)' for name, callback in CALLBACKS.items()]
    head = '(memory (export "memory") 1) (func (export "proxy_abi_version_0_2_0"))'
    malloc = '(func (export "malloc") (param i32) (result i32) unreachable)'
    report = inspect(assemble(f"(module {' '.join(imports)} {head} {malloc} {' '.join(exports)})"))

    assert report.callbacks == tuple(CALLBACKS)
    assert report.host_functions == tuple(sorted(HOST_FUNCTIONS))
    assert report.wasi_functions == tuple(sorted(WASI_FUNCTIONS))
    assert (report.allocator, report.abi_version, report.mistyped_exports) == ("malloc", "0.2.0", ())


def test_abi_0_1_0_has_callback_types_of_its_own_and_may_use_the_newer_ones() -> None:
    short = GUEST.replace('headers") (param i32 i32 i32)', 'headers") (param i32 i32)')

    assert inspect(assemble(short)).mistyped_exports == ("proxy_on_request_headers",)
    for module in (GUEST, short):
        report = inspect(assemble(module.replace("0_2_1", "0_1_0")))
        assert report.callbacks == ("proxy_on_context_create", "proxy_on_request_headers")


@pytest.mark.parametrize("result", ["", "(result i32)"])
def test_the_resume_functions_of_abi_0_1_0_link_with_and_without_result(result: str) -> None:
    resume = f'(module (import "env" "proxy_continue_request" (func {result}))'

    assert "proxy_continue_request" in inspect(assemble(GUEST.replace("(module", resume, 1))).host_functions


def test_the_first_known_marker_counts() -> None:
    both = GUEST.replace(
        '(func (export "proxy_abi_version_0_2_1"))',
        '(func (export "proxy_abi_version_9_9_9"))'
        '(func (export "proxy_abi_version_0_2_0")) (func (export "proxy_abi_version_0_2_1"))',
    )

    assert inspect(assemble(both)).abi_version == "0.2.0"


REFUSED = [
    ("proxy_abi_version_0_2_1", "x", MissingAbi, "exports no function proxy_abi_version_*"),
    ("0_2_1", "0_2_100", UnknownAbi, "proxy_abi_version_0_2_100: known are 0.1.0, 0.2.0, 0.2.1"),
    ('"proxy_log"', '"redis_call"', UnknownImports, "unknown import env.redis_call"),
    ('"wasi_snapshot_preview1"', '"wasi_ephemeral"', UnknownImports, "unknown import wasi_ephemeral.fd_write"),
    ("(param i32 i32 i32) (result i32)))\n  (import", "(param i64)))\n  (import", UnknownImports,
     "env.proxy_log of type (i64) (the host's is (i32, i32, i32) -> i32)"),
    ('(memory (export "memory") 1 4)', '(import "env" "memory" (memory 1)) (export "memory" (memory 0))', UnknownImports,
     "env.memory (a memory; the host provides functions only)"),
    ("proxy_on_memory_allocate", "allocate", MissingAllocator, "no allocator"),
    ("(param i32) (result i32) (i32.const 1024)", "", MissingAllocator, "of type (i32) -> i32"),
    ('(memory (export "memory") 1 4)', "", UnsuitableMemory, "no exported memory"),
    ('"memory"', '"ram"', UnsuitableMemory, 'exports its memory as "memory"'),
    ("(memory ", "(memory 1) (memory ", UnsuitableMemory, "2 memories"),
    ('"memory") 1 4', '"memory") i64 1 4', UnsuitableMemory, "a 64-bit memory"),
    ('"memory") 1 4', '"memory") 1 4 shared', UnsuitableMemory, "a shared memory"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "error", "text"), REFUSED)
def test_what_can_not_be_run_is_named(old: str, new: str, error: type[ModuleError], text: str) -> None:
    assert old in GUEST
    with pytest.raises(error, match=re.escape(text)):
        inspect(assemble(GUEST.replace(old, new, 1)))


def test_all_unknown_imports_are_listed() -> None:
    unknown = "".join(f'(import "env" "f{n}" (func))' for n in range(25))

    with pytest.raises(UnknownImports, match=r"unknown imports env\.f0, env\.f1, .* and 5 more"):
        inspect(assemble(GUEST.replace("(module", f"(module {unknown}", 1)))


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", CorruptModule, "not a Wasm module"),
        (b"#!/bin/sh\n", CorruptModule, "not a Wasm module"),
        (b"\0asm", CorruptModule, "unknown version missing"),
        (b"\0asm\2\0\0\0", CorruptModule, "unknown version 02 00 00 00"),
        (b"\0asm\x0d\0\1\0", ModuleError, "a WebAssembly component"),
        (b"\0asm\1\0\0\0\1\xff\xff\xff\xff\x0f", CorruptModule, "do not fit"),
        (b"\0asm\1\0\0\0\1\x80\x80\x80\x80\x80\x80", CorruptModule, "too long"),
        (b"\0asm\1\0\0\0\7\5\1\0\0\5\0", CorruptModule, "there is no function 5"),
        (b"\0asm\1\0\0\0" + b"\0\1\0" * 10_000, CorruptModule, "sections are not supported"),
    ],
)
def test_broken_files_are_refused(data: bytes, error: type[ModuleError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        inspect(data)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_report_or_a_module_error(data: bytes, magic: bool) -> None:
    with suppress(ModuleError):
        inspect(b"\0asm\1\0\0\0" + data if magic else data)


@given(st.data())
def test_a_damaged_module_is_a_report_or_a_module_error(data: st.DataObject) -> None:
    damaged = bytearray(WASM)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(ModuleError):
        inspect(bytes(damaged[:cut]))


def test_what_the_engine_accepts_is_never_called_corrupt() -> None:
    rich = """(module $m (type (func)) (import "a" "t" (table 1 2 funcref)) (import "a" "g" (global (mut i64)))
      (import "a" "m" (memory 1)) (table 3 externref) (global i32 (i32.const 1)) (tag (param i32))
      (func $f (param v128) (result f32 f64) unreachable) (elem func $f) (start $s) (func $s) (export "f" (func $f)))"""
    with pytest.raises(MissingAbi):
        inspect(bytes(wasmtime.wat2wasm(rich)))


def test_a_signature_reads_as_in_the_text_format() -> None:
    assert signature("iIfF>i") == "(i32, i64, f32, f64) -> i32"
    assert signature(">") == "()"
