"""Buffers: the bodies of a stream, configurations, and what may be read and written when."""

from __future__ import annotations

from shared.proxy_wasm.limits import Limits
from tests.conformance.stage import Stage, answers
from tests.conformance.table import FIRST, TABLE

asks, case = TABLE.asks, TABLE.case

GET, SET, STATUS = "proxy_get_buffer_bytes", "proxy_set_buffer_bytes", "proxy_get_buffer_status"
BODIES = (("request", 0), ("response", 1))

# --- reading

SLICES = {
    (0, 2): " he",
    (1, 9): " elloworld",
    (1, 10): " elloworld",
    (8, 2): " ld",
    (9, 1): " d",
    (10, 2): "",
    (11, 1): "",
    (0, 0): "",
    (0, 0xFFFFFFFF): " helloworld",
    (1, 0xFFFFFFFF): " elloworld",
    (0xFFFFFFFF, 0xFFFFFFFF): "",
}
for name, type_ in BODIES:
    asks(
        GET,
        f"slices of a {name} body; a start behind its end is Ok and empty, a size beyond it is cut",
        (f"{name}_body#1 return 1", *(f"{name}_body#2 buffer {type_} {start} {size}" for start, size in SLICES)),
        *(f"OK{slice_}" for slice_ in SLICES.values()),
    )
asks(
    GET,
    "a body is NotFound outside of its callback",
    ("request_headers buffer 0 0 9", "response_body buffer 0 0 9", "log buffer 1 0 9"),
    *["NOT_FOUND"] * 4,
)
asks(GET, "the VM's configuration in on_vm_start", "vm_start buffer 6 0 99", "OK")
asks(
    GET,
    "the plugin's configuration in on_configure, and its slices",
    ("configure buffer 7 0 9", "configure buffer 7 10 6"),
    "OK configure",
    "OK buffer",
)
asks(
    GET,
    "the plugin's configuration in any callback",
    ("request_headers buffer 7 0 15", "log buffer 7 0 3", "delete buffer 7 0 7"),
    "OK request_headers",
    "OK req",
    "OK request",
)
asks(
    GET,
    "buffers of calls, of TCP and of foreign functions are NotFound outside of them",
    tuple(f"request_headers buffer {k} 0 9" for k in (2, 3, 4, 5, 8)),
    *["NOT_FOUND"] * 5,
)
asks(GET, "an unknown buffer is BadArgument", "request_headers buffer 9 0 9", "BAD_ARGUMENT")
asks(
    "proxy_get_configuration",
    "the VM's configuration in on_vm_start, the plugin's in on_configure",
    ("vm_start configuration", "configure configuration"),
    "OK",
    "OK vm_start configuration%0aconfigure configuration",
    versions=FIRST,
)

# --- size and flags

for name, type_ in BODIES:
    asks(STATUS, f"the size of a {name} body, and no flags", f"{name}_body buffer_status {type_}", "OK 5 0", "OK 5 0")
asks(STATUS, "a body is NotFound outside of its callback", "request_headers buffer_status 0", "NOT_FOUND")
asks(STATUS, "the plugin's configuration", "configure buffer_status 7", "OK 25 0")
asks(STATUS, "an unknown buffer is BadArgument", "request_headers buffer_status 9", "BAD_ARGUMENT")

# --- writing

CHANGES = {
    "(0, 0) prepends": ("0 0 XX", "XXhello"),
    "a start at the end appends": ("5 0 XX", "helloXX"),
    "a start of 0x7fffffff appends, its size means nothing": ("2147483647 9 XX", "helloXX"),
    "a start of 0xffffffff appends": ("4294967295 0 XX", "helloXX"),
    "a size replaces as many bytes": ("0 1 XX", "XXello"),
    "in the middle it replaces as well": ("1 3 XX", "hXXo"),
    "a size of 0 in the middle inserts": ("2 0 XX", "heXXllo"),
    "a size beyond the end is cut": ("3 99 XX", "helXX"),
    "a size of 0xffffffff replaces the rest": ("0 4294967295 XX", "XX"),
    "nothing in the place of everything clears": ("0 4294967295 %", ""),
    "nothing in the place of the end truncates": ("2 99 %", "he"),
}


def changes(name: str, type_: int, behaviour: str, arguments: str, result: str) -> None:
    def act(stage: Stage) -> None:
        lines = stage.play(f"{name}_body#1 set_buffer {type_} {arguments}", f"{name}_body#1 buffer {type_} 0 99")
        stage.expect(answers(lines), ["OK", f"OK {result}" if result else "OK"])
        mark = "<" if type_ else ">"
        bodies = [line for line in lines if line.startswith(f"{mark} '")]
        stage.expect(bodies, [f"{mark} {result!r}", f"{mark} 'world' eos"])

    case(SET, f"{name} body: {behaviour}")(act)


for name, type_ in BODIES:
    for behaviour, (arguments, result) in CHANGES.items():
        changes(name, type_, behaviour, arguments, result)
asks(
    SET,
    "a body is NotFound outside of its callback",
    ("request_headers set_buffer 0 0 0 a", "log set_buffer 1 0 0 a"),
    "NOT_FOUND",
    "NOT_FOUND",
)
asks(
    SET,
    "all but bodies are read-only: BadArgument",
    tuple(f"configure set_buffer {k} 0 0 a" for k in (4, 5, 6, 7, 8)),
    *["BAD_ARGUMENT"] * 5,
)
asks(SET, "an unknown buffer is BadArgument", "request_body#1 set_buffer 9 0 0 a", "BAD_ARGUMENT")


@case(SET, "a held body is changed as a whole")
def _(stage: Stage) -> None:
    lines = stage.play("request_body#1 return 1", "request_body#2 set_buffer 0 4 2 --")
    stage.expect([line for line in lines if line.startswith("> '")], ["> 'hell--orld' eos"])


@case(SET, "an empty last piece can be filled")
def _(stage: Stage) -> None:
    lines = stage.open("request_body#2 set_buffer 0 0 0 end").request(b"hello", b"")
    stage.expect([line for line in lines if line.startswith("> '")], ["> 'hello'", "> 'end' eos"])


@case(SET, "more than the plugin may hold is InternalFailure")
def _(stage: Stage) -> None:
    case_ = stage.open("request_body set_buffer 0 0 0 more", limits=Limits(body_buffer_bytes=6))
    stage.expect(answers(case_.request(b"hello")), ["INTERNAL_FAILURE"])
