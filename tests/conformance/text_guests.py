"""Guests as WebAssembly text, where one odd thing is meant: a call with any numbers, a start function, an allocator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from shared.proxy_wasm.abi import HOST_FUNCTIONS, WASI_FUNCTIONS, AbiVersion
from tests.support.guest import assemble

PAGE = 65536
MARKER = {
    AbiVersion.V0_1_0: '(func (export "proxy_abi_version_0_1_0"))',
    AbiVersion.V0_2_0: '(func (export "proxy_abi_version_0_2_0"))',
    AbiVersion.V0_2_1: '(func (export "proxy_abi_version_0_2_1"))',
}
LOG = '(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))'
# The allocator gives this place to everything.
GIVEN = 0x4000
ALLOCATOR = f'(func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const {GIVEN}))'
# Begins a caller's line.
MARK = "~"
_WASM = {"i": "i32", "I": "i64"}


def plugin(version: AbiVersion, *functions: str, imports: str = LOG, allocator: str = ALLOCATOR, memory: str = "1") -> bytes:
    frame = f'(memory (export "memory") {memory}) {MARKER[version]} {allocator}'
    return assemble(" ".join(functions), frame, imports)


def headers_callback(version: AbiVersion, body: str) -> str:
    arguments = "i32 i32" if version is AbiVersion.V0_1_0 else "i32 i32 i32"
    return f'(func (export "proxy_on_request_headers") (param {arguments}) (result i32) {body} (i32.const 0))'


def say(letter: str) -> str:
    """Logs one letter: LETTERS must be among the functions."""
    return f"(drop (call $log (i32.const 2) (i32.const {ord(letter) - ord('a')}) (i32.const 1)))"


LETTERS = '(data (i32.const 0) "abcdefghijklmnop")'


@cache
def caller(version: AbiVersion, module: str, name: str, calls: tuple[tuple[int, ...], ...], data: str = "") -> bytes:
    """In the request's headers it calls one function with each row of numbers, and logs the answers behind the MARK, a
    character each: 0 is `@`, 1 is `A` and so on."""
    type_ = HOST_FUNCTIONS[name] if module == "env" else WASI_FUNCTIONS[name][0]
    parameters = type_.partition(">")[0]
    declared = "".join(f"(param {_WASM[letter]})" for letter in parameters)
    imported = "" if name == "proxy_log" else f'(import "{module}" "{name}" (func $f {declared} (result i32)))'
    target = "$log" if name == "proxy_log" else "$f"
    rows = [
        f"(i32.store8 (i32.const {PAGE // 2 + 1 + k}) (i32.add (i32.const 64) (call {target} {_numbers(parameters, row)})))"
        for k, row in enumerate(calls)
    ]
    rows.insert(0, f"(i32.store8 (i32.const {PAGE // 2}) (i32.const {ord(MARK)}))")
    out = f"(drop (call $log (i32.const 2) (i32.const {PAGE // 2}) (i32.const {len(calls) + 1})))"
    return plugin(version, data, headers_callback(version, " ".join(rows) + out), imports=LOG + imported)


def _numbers(parameters: str, row: Sequence[int]) -> str:
    assert len(parameters) == len(row), (parameters, row)
    return " ".join(f"({_WASM[letter]}.const {number})" for letter, number in zip(parameters, row, strict=True))


def statuses(lines: Sequence[str]) -> list[int]:
    """What a caller was answered."""
    (logged,) = [line for line in lines if line.startswith(MARK)]
    return [ord(character) - 64 for character in logged[1:]]
