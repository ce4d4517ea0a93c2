"""Addresses that a plugin gives: every input and output of every host function, inside and outside of its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.proxy_wasm.abi import Status
from tests.conformance.stage import Stage
from tests.conformance.table import TABLE
from tests.conformance.text_guests import PAGE, caller, statuses


@dataclass(frozen=True)
class In:
    """A pointer and a size."""

    pointer: int
    size: int = 1


@dataclass(frozen=True)
class Out:
    """A pointer to so many bytes that the host writes. One that is `optional` may be null."""

    size: int = 4
    pointer: int = 0x6000


Argument = int | In | Out

# A property at 8, "x" at 32, a NUL at 33; the last byte of the memory is a valid name and value.
DATA = '(data (i32.const 8) "plugin_name") (data (i32.const 32) "x") (data (i32.const 65535) "x")'
HEAD = b"GET / HTTP/1.1\r\nhost: h\r\nx: y\r\n"
X, NUL = In(32), In(33)
OUTSIDE_IN = (In(PAGE, 1), In(PAGE - 1, 2), In(0, PAGE + 1), In(0xFFFFFFF0, 0x20), In(0xFFFFFFFF, 1), In(1, 0xFFFFFFFF))
OUTSIDE_OUT = (PAGE, 0xFFFFFFFF, 0xFFFFFFFC, 0x80000000)

FUNCTIONS: dict[str, tuple[Argument, ...]] = {
    "proxy_log": (2, X),
    "proxy_get_log_level": (Out(),),
    "proxy_get_current_time_nanoseconds": (Out(8),),
    "proxy_get_buffer_bytes": (7, 0, 4, Out(), Out()),
    "proxy_get_buffer_status": (7, Out(), Out()),
    "proxy_get_header_map_size": (0, Out()),
    "proxy_get_header_map_pairs": (0, Out(), Out()),
    "proxy_set_header_map_pairs": (0, NUL),
    "proxy_get_header_map_value": (0, X, Out(), Out()),
    "proxy_add_header_map_value": (0, X, X),
    "proxy_replace_header_map_value": (0, X, X),
    "proxy_remove_header_map_value": (0, X),
    "proxy_send_local_response": (200, X, X, NUL, 0),
    "proxy_get_status": (Out(), Out(), Out()),
    "proxy_get_property": (In(8, 11), Out(), Out()),
    "proxy_set_property": (X, X),
    "proxy_get_configuration": (Out(), Out()),
    "proxy_get_shared_data": (X, Out(), Out(), Out()),
    "proxy_set_shared_data": (X, X, 0),
    "proxy_register_shared_queue": (X, Out()),
    "proxy_resolve_shared_queue": (In(0, 0), X, Out()),
    "proxy_enqueue_shared_queue": (1, X),
    "proxy_define_metric": (0, X, Out()),
    "proxy_call_foreign_function": (X, X, Out(), Out()),
    "proxy_http_call": (X, NUL, X, NUL, 1000, Out()),
    "proxy_grpc_call": (X, X, X, NUL, X, 1000, Out()),
    "proxy_grpc_stream": (X, X, X, NUL, Out()),
    "proxy_grpc_send": (1, X, 0),
}
# What is wrong about an output is found when there is something to put out, and these have nothing here.
INPUTS_ONLY = {"proxy_get_shared_data", "proxy_register_shared_queue", "proxy_resolve_shared_queue", "proxy_define_metric"}
INPUTS_ONLY |= {"proxy_call_foreign_function", "proxy_grpc_call", "proxy_grpc_stream", "proxy_http_call"}
LAST_BYTE = {name for name in FUNCTIONS if "shared" not in name} - INPUTS_ONLY - {"proxy_grpc_send"}


def flat(arguments: tuple[Argument, ...]) -> tuple[int, ...]:
    values: list[int] = []
    for argument in arguments:
        match argument:
            case In(pointer, size):
                values += (pointer, size)
            case Out(_, pointer):
                values.append(pointer)
            case int():
                values.append(argument)
    return tuple(values)


def changed(arguments: tuple[Argument, ...], at: int, argument: Argument) -> tuple[int, ...]:
    return flat((*arguments[:at], argument, *arguments[at + 1 :]))


def outside(name: str, arguments: tuple[Argument, ...]) -> list[tuple[int, ...]]:
    calls: list[tuple[int, ...]] = []
    for at, argument in enumerate(arguments):
        if isinstance(argument, In):
            calls += [changed(arguments, at, wrong) for wrong in OUTSIDE_IN]
        elif isinstance(argument, Out) and name not in INPUTS_ONLY:
            pointers = (*OUTSIDE_OUT, PAGE - argument.size + 1)
            calls += [changed(arguments, at, replace(argument, pointer=pointer)) for pointer in pointers]
    return calls


def at_the_edge(arguments: tuple[Argument, ...]) -> list[tuple[int, ...]]:
    calls = [flat(arguments)]
    for at, argument in enumerate(arguments):
        if argument == X:
            calls.append(changed(arguments, at, In(PAGE - 1)))
        elif isinstance(argument, Out):
            calls += [changed(arguments, at, replace(argument, pointer=pointer)) for pointer in (PAGE - argument.size, 0x6001)]
    return calls


def answered(stage: Stage, name: str, calls: list[tuple[int, ...]]) -> list[int]:
    module = caller(stage.version, "env", name, tuple(calls), DATA)
    return statuses(stage.worker.open(stage.bind("p", "configuration", module=module)).request(head=HEAD))


def rows(name: str, arguments: tuple[Argument, ...]) -> None:
    @TABLE.case(name, "addresses outside of the memory, and sizes that wrap around, are InvalidMemoryAccess")
    def _(stage: Stage) -> None:
        calls = outside(name, arguments)
        stage.expect(answered(stage, name, calls), [Status.INVALID_MEMORY_ACCESS] * len(calls))

    if name in LAST_BYTE:

        @TABLE.case(name, "the last bytes of the memory are inside, and no address need be aligned")
        def _(stage: Stage) -> None:
            calls = at_the_edge(arguments)
            stage.expect(answered(stage, name, calls), [Status.OK] * len(calls))


for function, its_arguments in FUNCTIONS.items():
    rows(function, its_arguments)


@TABLE.case("proxy_call_foreign_function", "null in the place of the result's addresses: it is not wanted")
def _(stage: Stage) -> None:
    stage.expect(stage.answers("request_headers foreign_blind compress data"), ["OK"])
