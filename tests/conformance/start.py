"""How a module becomes a plugin: versions, what runs first, allocators, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.conformance.stage import Stage
from tests.conformance.table import TABLE
from tests.conformance.text_guests import ALLOCATOR, LETTERS, LOG, headers_callback, plugin, say
from tests.support.guest import assemble

case = TABLE.case
START = "Start"
INITIALIZE = f'(func (export "_initialize") {say("a")})'
MAIN = f'(func (export "main") (param i32 i32) (result i32) {say("b")} (i32.const 1))'
COMMAND = f'(func (export "_start") {say("c")})'
SECTION = f"(func $section {say('d')}) (start $section)"

ORDERS = {
    "`_initialize`, then `main`; not `_start`": ((INITIALIZE, MAIN, COMMAND), "ab"),
    "`_start` where there is no `_initialize`, and `main` is left to it": ((COMMAND, MAIN), "c"),
    "neither is needed": ((), ""),
    "the start section runs before all of them": ((SECTION, INITIALIZE, MAIN), "dab"),
}


def starts(functions: tuple[str, ...], letters: str) -> Callable[[Stage], None]:
    def act(stage: Stage) -> None:
        module = plugin(stage.version, LETTERS, *functions)
        lines = stage.worker.open(stage.bind("p", module=module)).request()
        stage.expect("".join(line for line in lines if len(line) == 1), letters)

    return act


for behaviour, (functions, letters) in ORDERS.items():
    case(START, behaviour)(starts(functions, letters))


def refused(stage: Stage, module: bytes, *words: str) -> None:
    try:
        stage.bind("p", module=module)
    except ValueError as error:
        stage.expect([word for word in words if word not in str(error)], [])
    else:
        raise AssertionError("the module was not refused")


MEMORY = '(memory (export "memory") 1)'


@case(START, "a module without a version marker is refused")
def _(stage: Stage) -> None:
    refused(stage, assemble("", MEMORY + ALLOCATOR), "proxy_abi_version")


@case(START, "a module with an unknown marker only is refused, and told which")
def _(stage: Stage) -> None:
    refused(stage, assemble("", f'(func (export "proxy_abi_version_9_9_9")) {MEMORY} {ALLOCATOR}'), "proxy_abi_version_9_9_9")


@case(START, "of several markers the first known one counts")
def _(stage: Stage) -> None:
    stage.bind("p", module=plugin(stage.version, '(func (export "proxy_abi_version_9_9_9"))'))
    asyncio.run(asyncio.sleep(0))


@case(START, "unknown imports are refused, all of them named")
def _(stage: Stage) -> None:
    imports = '(import "env" "first" (func)) (import "other" "second" (func))'
    refused(stage, plugin(stage.version, imports=imports), "env.first", "other.second")


@case(START, "a module without an allocator is refused")
def _(stage: Stage) -> None:
    refused(stage, plugin(stage.version, allocator=""), "malloc")


GET = '(import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))'
_ASKED = "(call $get (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 72) (i32.const 76))"
ASK = f"""
  (i32.store8 (i32.const 64) (i32.add (i32.const 64) {_ASKED}))
  (drop (call $log (i32.const 2) (i32.const 64) (i32.const 1)))
  (drop (call $log (i32.const 2) (i32.load (i32.const 72)) (i32.load (i32.const 76))))"""
HEAD = b"GET / HTTP/1.1\r\nhost: h\r\nx: value\r\ne:\r\n"


def allocated(stage: Stage, allocator: str, key: str = "x") -> list[str]:
    """Status and value of the header that the plugin asks for."""
    data = f'(data (i32.const 32) "{key}")'
    module = plugin(stage.version, data, headers_callback(stage.version, ASK), imports=LOG + GET, allocator=allocator)
    return stage.worker.open(stage.bind("p", module=module)).request(head=HEAD)[:2]


def allocator(body: str, name: str = "malloc") -> str:
    return f'(func (export "{name}") (param i32) (result i32) {body})'


for name in ("malloc", "proxy_on_memory_allocate"):

    @case(name, "what a host function gives lies in memory from it")
    def _(stage: Stage, name: str = name) -> None:
        stage.expect(allocated(stage, allocator("(i32.const 1024)", name)), ["@", "value"])


@case("proxy_on_memory_allocate", "comes before `malloc` where there are both")
def _(stage: Stage) -> None:
    both = allocator("(i32.const 1024)", "proxy_on_memory_allocate") + allocator("unreachable")
    stage.expect(allocated(stage, both), ["@", "value"])


@case("malloc", "is never asked for nothing")
def _(stage: Stage) -> None:
    stage.expect(allocated(stage, allocator("unreachable"), "e"), ["@", ""])


@case("malloc", "0 is InvalidMemoryAccess, and the request goes on")
def _(stage: Stage) -> None:
    stage.expect(allocated(stage, allocator("(i32.const 0)"))[0], "F")


@case("malloc", "may make the memory grow")
def _(stage: Stage) -> None:
    grows = allocator("(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))")
    stage.expect(allocated(stage, grows), ["@", "value"])


@case("malloc", "may log; any other host call inside of it ends the VM")
def _(stage: Stage) -> None:
    logs = allocator("(drop (call $log (i32.const 2) (i32.const 32) (i32.const 1))) (i32.const 1024)")
    stage.expect(allocated(stage, logs), ["x", "@"])
    asks = allocator(f"(drop {_ASKED}) (i32.const 1024)")
    other = Stage(stage.engine, stage.version)
    stage.expect(allocated(other, asks)[0], "reply 503 wasm_fail_stream")
