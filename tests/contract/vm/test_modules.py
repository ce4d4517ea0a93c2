"""Modules as toolchains leave them: with debug information, unknown sections, and memory of any declared size."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import EngineError
from tests.support.guest import Guest, assemble, console, limits

PAGE = 65536
HEAD = 8
CONFIGURE = '(func (export "proxy_on_configure") (param i32 i32) (result i32) {})'
REST = '(func (export "proxy_abi_version_0_2_1")) (func (export "malloc") (param i32) (result i32) (i32.const 1024))'
SAY_AT_START = "(func $s (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))) (start $s)"
LOG = '(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))'


def leb(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + leb(number >> 7)


def custom(name: bytes, content: bytes) -> bytes:
    body = leb(len(name)) + name + content
    return b"\0" + leb(len(body)) + body


def size_at(module: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128, and where it ends."""
    number = shift = 0
    while True:
        byte = module[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def between_all_sections(module: bytes, section: bytes) -> bytes:
    pieces, at = [module[:HEAD], section], HEAD
    while at < len(module):
        size, content = size_at(module, at + 1)
        pieces += [module[at : content + size], section]
        at = content + size
    return b"".join(pieces)


@pytest.mark.parametrize(
    "section",
    [
        custom(b".debug_info", bytes(300_000)),
        custom(b"name", b"\xff" * 20),
        custom(b"producers", b""),
        custom(b"", b"nothing"),
        custom(b"sourceMappingURL", b"\x0bindex.wasm."),
    ],
)
def test_sections_that_the_host_does_not_need_are_passed_over(engine: Engine, section: bytes) -> None:
    for module, said in ((console(), []), (assemble(f'(data (i32.const 0) "s") {SAY_AT_START}', imports=LOG), ["s"])):
        guest = Guest(engine, between_all_sections(module, section))
        assert guest.take() == said
        stream = guest.stream("request_headers replace 0 x y")
        stream.request_headers(b"GET / HTTP/1.1\r\nhost: a\r\n", eos=True)
        stream.finish()
        guest.vm.close()


@pytest.mark.parametrize("declared", ["1", "1 65536", "256", "256 256"])
def test_a_memory_of_any_declared_size_that_fits(engine: Engine, declared: str) -> None:
    guest = Guest(engine, assemble(CONFIGURE.format("(i32.const 1)"), f'(memory (export "memory") {declared}) {REST}'))
    guest.root()
    guest.vm.close()


def test_a_memory_that_does_not_fit_is_refused_in_so_many_words(engine: Engine) -> None:
    module = assemble("", f'(memory (export "memory") 257) {REST}')
    with pytest.raises(EngineError, match="memory"):
        Guest(engine, module, limits(memory_bytes=256 * PAGE))


def test_memory_that_grows_while_the_module_starts_is_seen_by_the_host(engine: Engine) -> None:
    """As Go's runtime does it: what it then logs lies in the new part."""
    grow = "(drop (memory.grow (i32.const 40)))"
    write = f"(i32.store8 (i32.const {40 * PAGE}) (i32.const 65))"
    log = f"(drop (call $log (i32.const 2) (i32.const {40 * PAGE}) (i32.const 1)))"
    guest = Guest(engine, assemble(f'(func (export "_initialize") {grow} {write} {log})', imports=LOG))
    assert guest.take() == ["A"]
    guest.vm.close()
