"""Small Wasm modules as text, for tests that need a plugin to be there rather than to do much."""

from __future__ import annotations

import wasmtime

GUEST = """(module
  (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 4)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0)))
"""


def assemble(text: str = GUEST) -> bytes:
    return bytes(wasmtime.wat2wasm(text))
