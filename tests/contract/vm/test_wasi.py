"""WASI preview 1 as a plugin meets it, under both module names: output is the log, and there is nothing else to open."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from shared.proxy_wasm.abi import TOOLCHAIN_FUNCTIONS, WASI_FUNCTIONS, WASI_MODULES, LogLevel
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.link import declaration
from shared.proxy_wasm.vm import PluginVM, VmSettings
from tests.support.guest import Guest, Recorder, assemble

OK, BADF, NOENT, NOSYS, NOTSUP = 0, 8, 44, 52, 58
FDS = (0, 1, 2, 3)
OUTPUT_ONLY = (BADF, OK, OK, BADF)
# A vector of one piece: "hi\n".
VECTOR = '(data (i32.const 8) "\\10\\00\\00\\00\\03\\00\\00\\00hi\\0a")'
# Where results are written.
OUT = 4096

# name -> the arguments after the descriptor, and the answers for FDS
DESCRIPTORS: dict[str, tuple[tuple[int, ...], Sequence[int]]] = {
    "fd_advise": ((0, 0, 0), (OK,) * 4),
    "fd_allocate": ((0, 1), OUTPUT_ONLY),
    "fd_close": ((), (OK,) * 4),
    "fd_datasync": ((), OUTPUT_ONLY),
    "fd_fdstat_get": ((OUT,), OUTPUT_ONLY),
    "fd_fdstat_set_flags": ((0,), (NOSYS,) * 4),
    "fd_fdstat_set_rights": ((0, 0), OUTPUT_ONLY),
    "fd_filestat_get": ((OUT,), (BADF,) * 4),
    "fd_filestat_set_size": ((0,), OUTPUT_ONLY),
    "fd_filestat_set_times": ((0, 0, 0), OUTPUT_ONLY),
    "fd_pread": ((8, 1, 0, OUT), (NOSYS,) * 4),
    "fd_prestat_get": ((OUT,), (BADF,) * 4),
    "fd_prestat_dir_name": ((OUT, 9), (NOSYS,) * 4),
    "fd_pwrite": ((8, 1, 7, OUT), OUTPUT_ONLY),
    "fd_read": ((8, 1, OUT), (NOSYS,) * 4),
    "fd_readdir": ((OUT, 9, 0, OUT), (NOSYS,) * 4),
    "fd_renumber": ((1,), (BADF,) * 4),
    "fd_seek": ((0, 0, OUT), (OK,) * 4),
    "fd_sync": ((), OUTPUT_ONLY),
    "fd_tell": ((OUT,), OUTPUT_ONLY),
    "fd_write": ((8, 1, OUT), OUTPUT_ONLY),
}
OTHERS = {
    "args_get": OK,
    "args_sizes_get": OK,
    "environ_get": OK,
    "environ_sizes_get": OK,
    "clock_res_get": OK,
    "clock_time_get": OK,
    "path_open": NOENT,
    "poll_oneoff": OK,
    "random_get": OK,
    "sched_yield": OK,
}


def guest(module: str, name: str, calls: Sequence[Sequence[int]], data: str = VECTOR) -> bytes:
    """A plugin that makes the calls when it is configured; 64 and more are the places of their answers, one byte each."""
    type_ = TOOLCHAIN_FUNCTIONS[name] if module == "env" else WASI_FUNCTIONS[name][0]
    letters, _, results = type_.partition(">")
    body = []
    for position, arguments in enumerate(calls):
        pushed = " ".join(f"({_word(letter)}.const {value})" for letter, value in zip(letters, arguments, strict=True))
        call = f"(call $f {pushed})"
        body.append(f"(i32.store8 (i32.const {64 + position}) {call})" if results else call)
    body.append(f"(drop (call $log (i32.const 1) (i32.const 64) (i32.const {len(calls)})))")
    return assemble(
        f'{data} (func (export "proxy_on_configure") (param i32 i32) (result i32) {" ".join(body)} (i32.const 1))',
        imports=f'(import "{module}" "{name}" (func $f {declaration(type_)}))'
        '(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))',
    )


def _word(letter: str) -> str:
    return {"i": "i32", "I": "i64", "F": "f64"}[letter]


def run(engine: Engine, module: bytes) -> tuple[list[int], list[tuple[LogLevel, str]]]:
    """What the calls answered, and what else was logged."""
    recorder = Recorder()
    vm = PluginVM(engine, engine.compile(module), VmSettings("plugin", log_level=LogLevel.DEBUG), recorder)
    vm.create_root(b"")
    vm.close()
    *others, (_, _, answers) = recorder.logs
    return list(answers.encode("latin-1")), [(level, text) for level, _, text in others]


def test_the_tables_are_complete() -> None:
    paths = {name for name in WASI_FUNCTIONS if name.startswith("path_") and name not in OTHERS}
    sockets = {name for name in WASI_FUNCTIONS if name.startswith("sock_")}
    assert WASI_FUNCTIONS.keys() == DESCRIPTORS.keys() | OTHERS.keys() | paths | sockets | {"proc_exit", "proc_raise"}
    assert len(WASI_FUNCTIONS) == 46


@pytest.mark.parametrize("module", WASI_MODULES)
@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_function_of_descriptors(engine: Engine, module: str, name: str) -> None:
    arguments, expected = DESCRIPTORS[name]
    answers, logged = run(engine, guest(module, name, [(fd, *arguments) for fd in FDS]))
    assert answers == list(expected)
    writes = name in ("fd_write", "fd_pwrite")
    assert logged == ([(LogLevel.INFO, "hi"), (LogLevel.ERROR, "hi")] if writes else [])


@pytest.mark.parametrize("module", WASI_MODULES)
@pytest.mark.parametrize("name", sorted(WASI_FUNCTIONS.keys() - DESCRIPTORS.keys() - {"proc_exit"}))
def test_any_other_function(engine: Engine, module: str, name: str) -> None:
    parameters = WASI_FUNCTIONS[name][0].partition(">")[0]
    answers, logged = run(engine, guest(module, name, [[0] * len(parameters)]))
    assert (answers, logged) == ([OTHERS.get(name, NOTSUP)], [])


@pytest.mark.parametrize("module", WASI_MODULES)
def test_leaving_says_its_code_and_ends_the_vm(engine: Engine, module: str) -> None:
    recorder = Recorder()
    vm = PluginVM(engine, engine.compile(guest(module, "proc_exit", [[4294967295]])), VmSettings("plugin"), recorder)
    with pytest.raises(VmFailed) as failure:
        vm.create_root(b"")
    assert failure.value.code == "unreachable"
    assert recorder.logs == [(LogLevel.ERROR, 1, "the plugin called proc_exit with code 4294967295")]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (("1", "0.5", "9", "9", "9"), "1 0.500"),
        (("-3.25", "0.001", "0", "0", "0"), "-3.250 0.001"),
        (("nan", "1e99", "0", "0", "0"), "NaN over 4294967294"),
        (("0.02", "-4294967294", "0", "0", "0"), "0.020 -4294967294"),
    ],
)
def test_a_trace_of_assemblyscript(engine: Engine, numbers: tuple[str, ...], text: str) -> None:
    letters = "".join(f"{letter}\\00" for letter in "sum")
    values = " ".join(f"(f64.const {number})" for number in numbers)
    module = assemble(
        f'(data (i32.const 16) "\\06\\00\\00\\00{letters}") (func (export "proxy_on_configure") (param i32 i32) (result i32)'
        f"(call $trace (i32.const 20) (i32.const 2) {values}) (i32.const 1))",
        imports=f'(import "env" "trace" (func $trace {declaration(TOOLCHAIN_FUNCTIONS["trace"])}))',
    )
    plugin = Guest(engine, module)
    plugin.vm.create_root(b"")
    assert plugin.take() == [f"trace: sum {text}"]
    plugin.vm.close()


def test_a_trace_has_five_numbers_at_most(engine: Engine) -> None:
    module = guest("env", "trace", [(0, 99, 1, 2, 3, 4, 5)])
    _, logged = run(engine, module)
    assert logged == [(LogLevel.INFO, "trace:  1 2 3 4 5")]


def test_output_is_cut_where_a_log_line_ends_but_counted_whole(engine: Engine) -> None:
    """Ten pieces of 60,000 bytes: more than there is room for."""
    pieces = "".join(f"\\{byte:02x}" for byte in b"".join(n.to_bytes(4, "little") for n in itertools.chain(*[(0, 60000)] * 10)))
    _, logged = run(engine, guest(WASI_MODULES[0], "fd_write", [(1, 8, 10, OUT)], f'(data (i32.const 8) "{pieces}")'))
    [(level, text)] = logged
    assert level is LogLevel.INFO
    assert 1 << 15 <= len(text) <= 1 << 17
