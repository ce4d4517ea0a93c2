"""WASI preview 1, as far as it means anything to a plugin, under both names of its module."""

from __future__ import annotations

from shared.proxy_wasm.abi import WASI_FUNCTIONS, WASI_MODULES
from tests.conformance.stage import REQUEST, Stage
from tests.conformance.table import TABLE
from tests.conformance.text_guests import LETTERS, caller, statuses

asks, case = TABLE.asks, TABLE.case

BADF, FAULT, INVAL, NOENT, NOSYS, NOTSUP = 8, 21, 28, 44, 52, 58
OUT = 0x6000

# Arguments and answer of each function; the reference has the same table.
ANSWERS: dict[str, tuple[tuple[int, ...], int]] = {
    "args_get": ((OUT, OUT), 0),
    "args_sizes_get": ((OUT, OUT), 0),
    "environ_get": ((OUT, OUT), 0),
    "environ_sizes_get": ((OUT, OUT), 0),
    "clock_res_get": ((0, OUT), 0),
    "clock_time_get": ((0, 0, OUT), 0),
    "fd_advise": ((1, 0, 0, 0), 0),
    "fd_allocate": ((5, 0, 0), BADF),
    "fd_close": ((1,), 0),
    "fd_datasync": ((1,), 0),
    "fd_fdstat_get": ((1, OUT), 0),
    "fd_fdstat_set_flags": ((1, 0), NOSYS),
    "fd_fdstat_set_rights": ((5, 0, 0), BADF),
    "fd_filestat_get": ((1, OUT), BADF),
    "fd_filestat_set_size": ((5, 0), BADF),
    "fd_filestat_set_times": ((5, 0, 0, 0), BADF),
    "fd_pread": ((0, OUT, 1, 0, OUT), NOSYS),
    "fd_prestat_get": ((3, OUT), BADF),
    "fd_prestat_dir_name": ((3, OUT, 1), NOSYS),
    "fd_pwrite": ((5, OUT, 1, 0, OUT), BADF),
    "fd_read": ((0, OUT, 1, OUT), NOSYS),
    "fd_renumber": ((5, 6), BADF),
    "fd_seek": ((1, 0, 0, OUT), 0),
    "fd_sync": ((1,), 0),
    "fd_tell": ((5, OUT), BADF),
    "fd_write": ((1, OUT, 0, OUT), 0),
    "path_create_directory": ((3, 0, 1), NOTSUP),
    "path_filestat_get": ((3, 0, 0, 1, OUT), NOTSUP),
    "path_filestat_set_times": ((3, 0, 0, 1, 0, 0, 0), NOTSUP),
    "path_link": ((3, 0, 0, 1, 3, 0, 1), NOTSUP),
    "path_open": ((3, 0, 0, 1, 0, 0, 0, 0, OUT), NOENT),
    "path_readlink": ((3, 0, 1, OUT, 1, OUT), NOTSUP),
    "path_remove_directory": ((3, 0, 1), NOTSUP),
    "path_rename": ((3, 0, 1, 3, 0, 1), NOTSUP),
    "path_symlink": ((0, 1, 3, 0, 1), NOTSUP),
    "path_unlink_file": ((3, 0, 1), NOTSUP),
    "poll_oneoff": ((OUT, OUT, 1, OUT), 0),
    "proc_raise": ((1,), NOTSUP),
    "random_get": ((OUT, 8), 0),
    "sched_yield": ((), 0),
    "sock_accept": ((3, 0, OUT), NOTSUP),
    "sock_recv": ((3, OUT, 1, 0, OUT, OUT), NOTSUP),
    "sock_send": ((3, OUT, 1, 0, OUT), NOTSUP),
    "sock_shutdown": ((3, 0), NOTSUP),
}
NAMES = {0: "success", BADF: "BADF", NOENT: "NOENT", NOSYS: "NOSYS", NOTSUP: "NOTSUP"}


def answers(name: str, arguments: tuple[int, ...], errno: int) -> None:
    @case(name, f"under both names of WASI: {NAMES[errno]}")
    def _(stage: Stage) -> None:
        for module in WASI_MODULES:
            guest = caller(stage.version, module, name, (arguments,), LETTERS)
            lines = stage.worker.open(stage.bind("p", module=guest)).request(head=REQUEST)
            stage.expect(statuses(lines), [errno])


for function, (its_arguments, its_answer) in ANSWERS.items():
    answers(function, its_arguments, its_answer)

asks("fd_write", "standard output is a log line of level info, without its newline", "request_headers write 1 o u t%0a", "0 4")
asks("fd_write", "nothing is no log line", ("request_headers write 1 %", "request_headers write 1"), "0 0", "0 0")
asks("fd_write", "any other file is BADF", ("request_headers write 0 x", "request_headers write 3 x"), "8 0", "8 0")
asks(
    "clock_time_get",
    "real time and monotonic time; no other clock",
    tuple(f"request_headers clock {k}" for k in range(3)),
    "0 set",
    "0 set",
    "58 unset",
)
asks(
    "clock_res_get",
    "1 ns of both clocks; no other clock",
    tuple(f"request_headers resolution {k}" for k in range(3)),
    "0 1",
    "0 1",
    "58 9",
)
asks(
    "random_get",
    "64 KiB at once, no more",
    ("request_headers random 65536", "request_headers random 66560"),
    "0 noise",
    "28 noise",
)
asks("environ_get", "nothing of the host's environment", "request_headers environ", "0 0")
asks("args_sizes_get", "no arguments", "request_headers args", "0 0")
asks(
    "fd_prestat_get",
    "BADF of every file ends the scan of directories",
    ("request_headers prestat 3", "request_headers prestat 4"),
    "8",
    "8",
)
asks(
    "fd_fdstat_get",
    "standard output and error may be written; no other file",
    tuple(f"request_headers fdstat {k}" for k in (1, 2, 0)),
    "0 64",
    "0 64",
    "8 9",
)
asks("poll_oneoff", "success at once, without an event", "request_headers poll", "0 0")


@case("proc_exit", "ends the VM, not the worker")
def _(stage: Stage) -> None:
    stage.expect("reply 503 wasm_fail_stream" in stage.open("request_headers exit 3").request(), True)


@case("fd_readdir", "NOSYS or NOTSUP: there are no directories")
def _(stage: Stage) -> None:
    guest = caller(stage.version, WASI_MODULES[0], "fd_readdir", ((3, OUT, 1, 0, OUT),))
    (errno,) = statuses(stage.worker.open(stage.bind("p", module=guest)).request(head=REQUEST))
    stage.expect(errno != 0, True)


assert {*ANSWERS, "fd_readdir", "proc_exit"} == set(WASI_FUNCTIONS)
