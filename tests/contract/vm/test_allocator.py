"""The guest's allocator: when the host calls it, what it may do meanwhile, and what becomes of a call when it fails."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.inspect import MissingAllocator
from tests.support.guest import Guest, assemble

GET = b"GET / HTTP/1.1\r\nhost: a\r\nempty:\r\nx: value\r\n"

IMPORTS = """
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_log_level" (func $level (param i32) (result i32)))
"""
MARKER = '(func (export "proxy_abi_version_0_2_1"))'
STRINGS = '(data (i32.const 0) "xempty") (data (i32.const 16) "plugin_name") (data (i32.const 32) "inside")'

# Asks for `x`, logs its status as a character, and then the value that it was given.
ASK = """
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.store8 (i32.const 64) (call $get (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 72) (i32.const 76)))
    (drop (call $log (i32.const 2) (i32.const 64) (i32.const 1)))
    (drop (call $log (i32.const 2) (i32.load (i32.const 72)) (i32.load (i32.const 76))))
    (i32.const 0))
"""


def plugin(allocator: str, callbacks: str = ASK, memory: str = "1", name: str = "malloc") -> bytes:
    frame = f'(memory (export "memory") {memory}) {MARKER} {STRINGS}'
    allocate = f'(func (export "{name}") (param i32) (result i32) {allocator})'
    return assemble(allocate + callbacks, frame, IMPORTS)


def told(engine: Engine, module: bytes) -> list[str]:
    guest = Guest(engine, module)
    stream = guest.stream()
    stream.request_headers(GET, eos=True)
    stream.finish()
    guest.vm.close()
    return guest.take()


@pytest.mark.parametrize("name", ["malloc", "proxy_on_memory_allocate"])
def test_either_allocator_will_do(engine: Engine, name: str) -> None:
    assert told(engine, plugin("(i32.const 1024)", name=name)) == ["\0", "value"]


def test_the_abi_s_own_comes_first(engine: Engine) -> None:
    other = '(func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))'
    assert told(engine, plugin("unreachable", ASK + other)) == ["\0", "value"]


def test_one_of_another_type_does_not_count(engine: Engine) -> None:
    other = '(func (export "proxy_on_memory_allocate") (param i32 i32) (result i32) unreachable)'
    assert told(engine, plugin("(i32.const 1024)", ASK + other)) == ["\0", "value"]


def test_without_any_a_module_is_refused(engine: Engine) -> None:
    with pytest.raises(MissingAllocator):
        engine.compile(assemble("", f'(memory (export "memory") 1) {MARKER}'))


@pytest.mark.parametrize("place", ["0", "65532", "65536", "0xfffffff0", "0xffffffff"])
def test_no_memory_or_memory_that_is_none_is_a_status(engine: Engine, place: str) -> None:
    """ "value" has five bytes: behind 65532 it does not fit."""
    assert told(engine, plugin(f"(i32.const {place})"))[0] == "\x06"


def test_the_last_bytes_of_the_memory_will_do(engine: Engine) -> None:
    assert told(engine, plugin("(i32.const 65531)")) == ["\0", "value"]


def test_an_allocator_may_make_the_memory_grow(engine: Engine) -> None:
    """What the host wrote must be in the new page, and be there when the plugin looks."""
    assert told(engine, plugin("(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))")) == ["\0", "value"]


EMPTY = """
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (i32.store (i32.const 72) (i32.const -1)) (i32.store (i32.const 76) (i32.const -1))
    (i32.store8 (i32.const 64) (i32.add (i32.const 65) (CALL)))
    (drop (call $log (i32.const 2) (i32.const 64) (i32.const 1)))
    (drop (call $log (i32.const 2) (i32.const 72) (i32.const 8)))
    (i32.const 0))
"""


@pytest.mark.parametrize(
    "call",
    [
        "call $get (i32.const 0) (i32.const 1) (i32.const 5) (i32.const 72) (i32.const 76)",
        "call $pairs (i32.const 1) (i32.const 72) (i32.const 76)",
        "call $buffer (i32.const 6) (i32.const 0) (i32.const 9) (i32.const 72) (i32.const 76)",
        "call $buffer (i32.const 7) (i32.const 9) (i32.const 9) (i32.const 72) (i32.const 76)",
    ],
)
def test_an_empty_result_asks_for_no_memory(engine: Engine, call: str) -> None:
    assert told(engine, plugin("unreachable", EMPTY.replace("CALL", call))) == ["A", "\0" * 8]


def test_an_allocator_may_log_and_look_at_the_clock(engine: Engine) -> None:
    inside = (
        "(drop (call $log (i32.const 2) (i32.const 32) (i32.const 6))) (drop (call $time (i32.const 128))) (i32.const 1024)"
    )
    assert told(engine, plugin(inside)) == ["inside", "\0", "value"]


@pytest.mark.parametrize(
    "call",
    [
        "call $get (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 72) (i32.const 76)",
        "call $pairs (i32.const 0) (i32.const 72) (i32.const 76)",
        "call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 72) (i32.const 76)",
        "call $property (i32.const 16) (i32.const 11) (i32.const 72) (i32.const 76)",
        "call $level (i32.const 72)",
    ],
)
def test_any_other_host_call_inside_an_allocator_is_a_trap(engine: Engine, call: str) -> None:
    with pytest.raises(VmFailed) as failure:
        told(engine, plugin(f"(drop ({call})) (i32.const 1024)"))
    assert failure.value.code == "unreachable"
