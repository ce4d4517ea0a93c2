"""Every host function by itself: that it links and answers its status, and what it makes of addresses that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from shared.proxy_wasm.abi import HOST_FUNCTIONS, TOOLCHAIN_FUNCTIONS, WASI_FUNCTIONS, WASI_MODULES, Direction, Status
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.vm import VmSettings
from tests.support.guest import Guest, assemble

PAGE = 65536
GET = b"POST / HTTP/1.1\r\nhost: a\r\nx: y\r\n"
WORDS = {"i": "i32", "I": "i64", "F": "f64"}


def declaration(type_: str) -> str:
    parameters, _, results = type_.partition(">")
    return "".join(f"(param {WORDS[c]})" for c in parameters) + "".join(f"(result {WORDS[c]})" for c in results)


def caller(module: str, name: str, type_: str, calls: Sequence[Sequence[int]], data: str = "") -> bytes:
    """A plugin that makes the calls when a body comes, and logs each answer as one character."""
    parameters, _, results = type_.partition(">")
    body = []
    for arguments in calls:
        pushed = " ".join(f"({WORDS[letter]}.const {value})" for letter, value in zip(parameters, arguments, strict=True))
        call = f"(call $f {pushed})"
        if results == "i":
            body.append(f"(i32.store8 (i32.const 40000) {call})")
        else:
            body.append(f"{call if not results else f'(drop {call})'} (i32.store8 (i32.const 40000) (i32.const 0))")
        body.append("(drop (call $log (i32.const 2) (i32.const 40000) (i32.const 1)))")
    return assemble(
        f'{data} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))'
        f'(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) {" ".join(body)} (i32.const 1))',
        imports=f'(import "{module}" "{name}" (func $f {declaration(type_)}))'
        '(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))',
    )


def answers(engine: Engine, module: bytes) -> list[int]:
    guest = Guest(engine, module)
    stream = guest.stream()
    stream.request_headers(GET, eos=False)
    stream.body(Direction.REQUEST, b"body", eos=True)
    told = [ord(text) for _, _, text in guest.recorder.logs]
    guest.vm.close()
    return told


UNIMPLEMENTED = (
    *("proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream", "proxy_grpc_send", "proxy_grpc_cancel", "proxy_grpc_close"),
    *("proxy_get_shared_data", "proxy_set_shared_data", "proxy_register_shared_queue", "proxy_resolve_shared_queue"),
    *("proxy_enqueue_shared_queue", "proxy_dequeue_shared_queue", "proxy_define_metric", "proxy_increment_metric"),
    *("proxy_record_metric", "proxy_get_metric"),
)
# With every argument 0, in a body callback.
ANSWERS: dict[str, Status] = dict.fromkeys(HOST_FUNCTIONS, Status.OK) | {
    **dict.fromkeys(UNIMPLEMENTED, Status.UNIMPLEMENTED),
    "proxy_done": Status.NOT_FOUND,
    "proxy_set_effective_context": Status.BAD_ARGUMENT,
    "proxy_get_header_map_value": Status.NOT_FOUND,
    "proxy_add_header_map_value": Status.BAD_ARGUMENT,
    "proxy_replace_header_map_value": Status.BAD_ARGUMENT,
    "proxy_send_local_response": Status.BAD_ARGUMENT,
    "proxy_get_property": Status.NOT_FOUND,
    "proxy_set_property": Status.NOT_FOUND,
    "proxy_call_foreign_function": Status.NOT_FOUND,
}


@pytest.mark.parametrize("name", HOST_FUNCTIONS)
def test_every_host_function_links_and_answers(engine: Engine, name: str) -> None:
    type_ = HOST_FUNCTIONS[name]
    zeros = [0] * len(type_.partition(">")[0])
    assert answers(engine, caller("env", name, type_, [zeros])) == [ANSWERS[name]]


@pytest.mark.parametrize("name", ["proxy_continue_request", "proxy_continue_response", "proxy_clear_route_cache"])
def test_the_oldest_functions_may_be_declared_without_a_result(engine: Engine, name: str) -> None:
    assert answers(engine, caller("env", name, ">", [[]])) == [0]


@pytest.mark.parametrize("name", sorted(set(TOOLCHAIN_FUNCTIONS) - {"abort", "trace"}))
def test_functions_of_toolchains_link(engine: Engine, name: str) -> None:
    type_ = TOOLCHAIN_FUNCTIONS[name]
    arguments = [3] * len(type_.partition(">")[0])
    assert answers(engine, caller("env", name, type_, [arguments])) == [1 if name == "pthread_equal" else 0]


@pytest.mark.parametrize("module", WASI_MODULES)
def test_every_wasi_function_links_and_answers(engine: Engine, module: str) -> None:
    for name, (type_, constant) in WASI_FUNCTIONS.items():
        if name == "proc_exit":
            continue
        zeros = [0] * len(type_.partition(">")[0])
        (answer,) = answers(engine, caller(module, name, type_, [zeros]))
        assert constant is None or answer == constant, name


@pytest.mark.parametrize(("module", "name"), [(WASI_MODULES[0], "proc_exit"), (WASI_MODULES[1], "proc_exit"), ("env", "abort")])
def test_a_plugin_that_ends_itself_ends_its_vm_only(engine: Engine, module: str, name: str) -> None:
    type_ = TOOLCHAIN_FUNCTIONS.get(name) or WASI_FUNCTIONS[name][0]
    with pytest.raises(VmFailed) as failure:
        answers(engine, caller(module, name, type_, [[0] * (len(type_) - 1)]))
    assert failure.value.code == "unreachable"


# --- addresses: `In` is a pointer and a size, `Out` a pointer to so many bytes that the host writes


@dataclass(frozen=True)
class In:
    pointer: int = 32
    size: int = 1


@dataclass(frozen=True)
class Out:
    size: int = 4
    pointer: int = 32768


Argument = int | In | Out
A, EMPTY_MAP = In(), In(33, 1)

FUNCTIONS: list[tuple[str, list[Argument]]] = [
    ("proxy_log", [0, A]),
    ("proxy_get_log_level", [Out()]),
    ("proxy_get_current_time_nanoseconds", [Out(8)]),
    ("proxy_get_buffer_bytes", [0, 0, 4, Out(), Out()]),
    ("proxy_set_buffer_bytes", [0, 0, 0, A]),
    ("proxy_get_buffer_status", [0, Out(), Out()]),
    ("proxy_get_header_map_size", [0, Out()]),
    ("proxy_get_header_map_pairs", [0, Out(), Out()]),
    ("proxy_get_header_map_pairs", [1, Out(), Out()]),
    ("proxy_set_header_map_pairs", [0, EMPTY_MAP]),
    ("proxy_get_header_map_value", [0, A, Out(), Out()]),
    ("proxy_add_header_map_value", [0, A, A]),
    ("proxy_replace_header_map_value", [0, A, A]),
    ("proxy_remove_header_map_value", [0, A]),
    ("proxy_send_local_response", [200, A, A, EMPTY_MAP, 0]),
    ("proxy_get_status", [Out(), Out(), Out()]),
    ("proxy_get_property", [In(8, 11), Out(), Out()]),
    ("proxy_set_property", [A, A]),
]
# A property at 8, "x" at 32, a NUL at 33; and the last byte of the memory is a valid name and value.
DATA = '(data (i32.const 8) "plugin_name") (data (i32.const 32) "x") (data (i32.const 65535) "x")'

OUTSIDE = [In(PAGE, 1), In(PAGE - 1, 2), In(0, PAGE + 1), In(0xFFFFFFF0, 0x20), In(0xFFFFFFFF, 1), In(1, 0xFFFFFFFF)]
OUTSIDE += [In(0x80000000, 0x80000000), In(PAGE + 1, 0), In(0xFFFFFFFF, 0xFFFFFFFF)]


def flat(arguments: Sequence[Argument]) -> list[int]:
    values: list[int] = []
    for argument in arguments:
        match argument:
            case In(pointer, size):
                values += [pointer, size]
            case Out(_, pointer):
                values.append(pointer)
            case number:
                values.append(number)
    return values


def with_argument(arguments: Sequence[Argument], position: int, argument: Argument) -> list[int]:
    return flat([*arguments[:position], argument, *arguments[position + 1 :]])


IDS = [f"{name}-{len(flat(arguments))}" for name, arguments in FUNCTIONS]


@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS, ids=IDS)
def test_addresses_outside_of_the_memory_are_a_status(engine: Engine, name: str, arguments: list[Argument]) -> None:
    calls = []
    for position, argument in enumerate(arguments):
        if isinstance(argument, In):
            calls += [with_argument(arguments, position, wrong) for wrong in OUTSIDE]
        elif isinstance(argument, Out):
            wrong_pointers = (PAGE, PAGE - argument.size + 1, 0xFFFFFFFF, 0xFFFFFFFC, 0x80000000)
            calls += [with_argument(arguments, position, Out(pointer=pointer)) for pointer in wrong_pointers]
    assert calls
    wrong = answers(engine, caller("env", name, HOST_FUNCTIONS[name], calls, DATA))
    assert wrong == [Status.INVALID_MEMORY_ACCESS] * len(calls)


@pytest.mark.parametrize(("name", "arguments"), FUNCTIONS, ids=IDS)
def test_the_last_byte_of_the_memory_is_in_it(engine: Engine, name: str, arguments: list[Argument]) -> None:
    calls = [flat(arguments)]
    for position, argument in enumerate(arguments):
        if argument == A:
            calls.append(with_argument(arguments, position, In(PAGE - 1, 1)))
        elif isinstance(argument, Out):
            calls.append(with_argument(arguments, position, Out(pointer=PAGE - argument.size)))
            calls.append(with_argument(arguments, position, Out(pointer=32769)))
    assert answers(engine, caller("env", name, HOST_FUNCTIONS[name], calls, DATA)) == [Status.OK] * len(calls)


SHARED: list[tuple[str, list[Argument]]] = [
    ("proxy_get_shared_data", [A, 64, 68, 72]),
    ("proxy_set_shared_data", [A, A, 0]),
    ("proxy_register_shared_queue", [A, 64]),
    ("proxy_resolve_shared_queue", [A, A, 64]),
    ("proxy_enqueue_shared_queue", [1, A]),
    ("proxy_define_metric", [0, A, 64]),
]


@pytest.mark.parametrize(("name", "arguments"), SHARED)
def test_addresses_are_looked_at_before_anybody_is_asked(engine: Engine, name: str, arguments: list[Argument]) -> None:
    """Nobody keeps shared data here, so that what is in order is Unimplemented."""
    places = [position for position, argument in enumerate(arguments) if isinstance(argument, In)]
    calls = [with_argument(arguments, position, wrong) for position in places for wrong in OUTSIDE]
    wrong_answers = answers(engine, caller("env", name, HOST_FUNCTIONS[name], calls, DATA))
    assert wrong_answers == [Status.INVALID_MEMORY_ACCESS] * len(calls)
    calls = [with_argument(arguments, position, In(PAGE - 1, 1)) for position in places]
    good_answers = answers(engine, caller("env", name, HOST_FUNCTIONS[name], calls, DATA))
    assert good_answers == [Status.UNIMPLEMENTED] * len(calls)


@pytest.mark.parametrize("module", WASI_MODULES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("args_sizes_get", [Out(), Out()]),
        ("environ_sizes_get", [Out(), Out()]),
        ("clock_res_get", [0, Out(8)]),
        ("clock_time_get", [0, 0, Out(8)]),
        ("random_get", [In(0, 1)]),
        ("fd_fdstat_get", [1, Out(24)]),
        ("fd_write", [1, 0, 1, Out()]),
        ("poll_oneoff", [0, 0, 1, Out()]),
    ],
)
def test_wasi_knows_bad_addresses_too(engine: Engine, module: str, name: str, arguments: list[Argument]) -> None:
    calls = []
    for position, argument in enumerate(arguments):
        if isinstance(argument, In):
            calls += [with_argument(arguments, position, wrong) for wrong in OUTSIDE if wrong.size <= PAGE]
        elif isinstance(argument, Out):
            calls += [with_argument(arguments, position, Out(pointer=at)) for at in (PAGE - argument.size + 1, 0xFFFFFFFF)]
    assert set(answers(engine, caller(module, name, WASI_FUNCTIONS[name][0], calls))) == {21}


def test_vectors_outside_of_the_memory(engine: Engine) -> None:
    """The list itself, and a piece of it."""
    data = '(data (i32.const 8) "\\00\\00\\01\\00\\01\\00\\00\\00")'
    calls = [[1, PAGE - 4, 1, 64], [1, 8, 1, 64], [1, 0xFFFFFFF8, 2, 64], [1, 0, 0xFFFFFFFF, 64]]
    assert answers(engine, caller(WASI_MODULES[0], "fd_write", "iiii>i", calls, data)) == [21] * 4


def test_an_environment_that_does_not_fit(engine: Engine) -> None:
    calls = [[PAGE - 4, 0], [64, PAGE - 3], [0xFFFFFFFC, 0], [64, 128]]
    module = caller(WASI_MODULES[0], "environ_get", "ii>i", calls)
    guest = Guest(engine, module, VmSettings("plugin", environment={"A": "1", "B": "2"}))
    stream = guest.stream()
    stream.request_headers(GET, eos=False)
    stream.body(Direction.REQUEST, b"", eos=True)
    assert [ord(text) for _, _, text in guest.recorder.logs] == [21, 21, 21, 0]
    guest.vm.close()
