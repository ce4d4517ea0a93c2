"""The Proxy-Wasm ABI as tables: every callback, host function and number of versions 0.1.0, 0.2.0 and 0.2.1.

The law: names, types and defaults of the ABI stand here and nowhere else; linking, inspection and documentation read them.
A type is written as its parameters, `>` and its results, one letter a value: `i` is i32, `I` is i64, `F` is f64.
Source: the Proxy-Wasm specification 0.2.1, and Envoy's host where the specification is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class AbiVersion(IntEnum):
    V0_1_0 = 0
    V0_2_0 = 1
    V0_2_1 = 2

    def __str__(self) -> str:
        return ("0.1.0", "0.2.0", "0.2.1")[self]


VERSION_MARKERS = {
    "proxy_abi_version_0_1_0": AbiVersion.V0_1_0,
    "proxy_abi_version_0_2_0": AbiVersion.V0_2_0,
    "proxy_abi_version_0_2_1": AbiVersion.V0_2_1,
}
MARKER_PREFIX = "proxy_abi_version_"

# The specification prefers the first; what a module exports besides it is not asked.
ALLOCATORS = ("proxy_on_memory_allocate", "malloc")


class Status(IntEnum):
    OK = 0
    NOT_FOUND = 1
    BAD_ARGUMENT = 2
    SERIALIZATION_FAILURE = 3
    PARSE_FAILURE = 4
    INVALID_MEMORY_ACCESS = 6
    EMPTY = 7
    CAS_MISMATCH = 8
    INTERNAL_FAILURE = 10
    UNIMPLEMENTED = 12


class LogLevel(IntEnum):
    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    CRITICAL = 5


class MapType(IntEnum):
    REQUEST_HEADERS = 0
    REQUEST_TRAILERS = 1
    RESPONSE_HEADERS = 2
    RESPONSE_TRAILERS = 3
    GRPC_INITIAL_METADATA = 4
    GRPC_TRAILING_METADATA = 5
    CALL_RESPONSE_HEADERS = 6
    CALL_RESPONSE_TRAILERS = 7


class BufferType(IntEnum):
    REQUEST_BODY = 0
    RESPONSE_BODY = 1
    CALL_RESPONSE_BODY = 4
    GRPC_MESSAGE = 5
    VM_CONFIGURATION = 6
    PLUGIN_CONFIGURATION = 7
    FOREIGN_ARGUMENTS = 8


class Direction(IntEnum):
    """Also the stream type of continue_stream and close_stream, and the buffer type of a body."""

    REQUEST = 0
    RESPONSE = 1


class Action(IntEnum):
    CONTINUE = 0
    PAUSE = 1


class Effect:
    """What a callback left to be done after it returned: bits of the core's result (core/core.h has the same numbers).

    Plain numbers, because an IntFlag takes half a microsecond for each `&`, and a request that pauses has thirty of them.
    """

    CHANGED: Final = 1
    LOCAL_REPLY: Final = 2
    CONTINUE_REQUEST: Final = 4
    CONTINUE_RESPONSE: Final = 8
    CLOSE: Final = 16
    DONE: Final = 32
    OTHERS: Final = 64
    BAD_HEAD: Final = 128
    TRAILERS: Final = 256
    CLEAR_ROUTE_CACHE: Final = 512
    FINISHED: Final = 1024


@dataclass(frozen=True, slots=True)
class Callback:
    """A module's export. `default` is the answer when it is not exported; `short` the type that ABI 0.1.0 uses instead."""

    type: str
    default: int = 0
    short: str = ""


CALLBACKS = {
    "proxy_on_context_create": Callback("ii>"),
    "proxy_on_vm_start": Callback("ii>i", 1),
    "proxy_on_configure": Callback("ii>i", 1),
    "proxy_on_tick": Callback("i>"),
    "proxy_on_done": Callback("i>i", 1),
    "proxy_on_log": Callback("i>"),
    "proxy_on_delete": Callback("i>"),
    "proxy_on_new_connection": Callback("i>i"),
    "proxy_on_downstream_data": Callback("iii>i"),
    "proxy_on_downstream_connection_close": Callback("ii>"),
    "proxy_on_upstream_data": Callback("iii>i"),
    "proxy_on_upstream_connection_close": Callback("ii>"),
    "proxy_on_request_headers": Callback("iii>i", 0, "ii>i"),
    "proxy_on_request_body": Callback("iii>i"),
    "proxy_on_request_trailers": Callback("ii>i"),
    "proxy_on_response_headers": Callback("iii>i", 0, "ii>i"),
    "proxy_on_response_body": Callback("iii>i"),
    "proxy_on_response_trailers": Callback("ii>i"),
    "proxy_on_http_call_response": Callback("iiiii>"),
    "proxy_on_grpc_receive_initial_metadata": Callback("iii>"),
    "proxy_on_grpc_receive": Callback("iii>"),
    "proxy_on_grpc_receive_trailing_metadata": Callback("iii>"),
    "proxy_on_grpc_close": Callback("iii>"),
    "proxy_on_queue_ready": Callback("ii>"),
    "proxy_on_foreign_function": Callback("iii>"),
}

# Imports from module `env`. The four last ones are of ABI 0.1.0 only.
HOST_FUNCTIONS = {
    "proxy_log": "iii>i",
    "proxy_get_log_level": "i>i",
    "proxy_get_current_time_nanoseconds": "i>i",
    "proxy_set_tick_period_milliseconds": "i>i",
    "proxy_set_effective_context": "i>i",
    "proxy_done": ">i",
    "proxy_get_buffer_bytes": "iiiii>i",
    "proxy_set_buffer_bytes": "iiiii>i",
    "proxy_get_buffer_status": "iii>i",
    "proxy_get_header_map_size": "ii>i",
    "proxy_get_header_map_pairs": "iii>i",
    "proxy_set_header_map_pairs": "iii>i",
    "proxy_get_header_map_value": "iiiii>i",
    "proxy_add_header_map_value": "iiiii>i",
    "proxy_replace_header_map_value": "iiiii>i",
    "proxy_remove_header_map_value": "iii>i",
    "proxy_continue_stream": "i>i",
    "proxy_close_stream": "i>i",
    "proxy_send_local_response": "iiiiiiii>i",
    "proxy_get_status": "iii>i",
    "proxy_http_call": "iiiiiiiiii>i",
    "proxy_grpc_call": "iiiiiiiiiiii>i",
    "proxy_grpc_stream": "iiiiiiiii>i",
    "proxy_grpc_send": "iiii>i",
    "proxy_grpc_cancel": "i>i",
    "proxy_grpc_close": "i>i",
    "proxy_get_shared_data": "iiiii>i",
    "proxy_set_shared_data": "iiiii>i",
    "proxy_register_shared_queue": "iii>i",
    "proxy_resolve_shared_queue": "iiiii>i",
    "proxy_enqueue_shared_queue": "iii>i",
    "proxy_dequeue_shared_queue": "iii>i",
    "proxy_define_metric": "iiii>i",
    "proxy_increment_metric": "iI>i",
    "proxy_record_metric": "iI>i",
    "proxy_get_metric": "ii>i",
    "proxy_get_property": "iiii>i",
    "proxy_set_property": "iiii>i",
    "proxy_call_foreign_function": "iiiiii>i",
    "proxy_get_configuration": "ii>i",
    "proxy_continue_request": ">i",
    "proxy_continue_response": ">i",
    "proxy_clear_route_cache": ">i",
}

# Imports from `env` that are no part of the ABI, but that emscripten and AssemblyScript builds declare.
TOOLCHAIN_FUNCTIONS = {
    "emscripten_notify_memory_growth": "i>",
    "pthread_equal": "ii>i",
    "abort": "iiii>",
    "seed": ">F",
    "trace": "iiFFFFF>",
}

WASI_MODULES = ("wasi_snapshot_preview1", "wasi_unstable")

ERRNO_BADF = 8
ERRNO_NOENT = 44
ERRNO_NOSYS = 52
ERRNO_NOTSUP = 58
ERRNO_NOTCAPABLE = 76

# name -> (type, constant answer or None: the core answers). The constants are those of Envoy's host: a plugin has no files
# and no sockets, and BADF from fd_prestat_get is what ends libc's and Go's scan of pre-opened directories.
WASI_FUNCTIONS: dict[str, tuple[str, int | None]] = {
    "args_get": ("ii>i", 0),
    "args_sizes_get": ("ii>i", None),
    "environ_get": ("ii>i", None),
    "environ_sizes_get": ("ii>i", None),
    "clock_res_get": ("ii>i", None),
    "clock_time_get": ("iIi>i", None),
    "fd_advise": ("iIIi>i", 0),
    "fd_allocate": ("iII>i", None),
    "fd_close": ("i>i", 0),
    "fd_datasync": ("i>i", None),
    "fd_fdstat_get": ("ii>i", None),
    "fd_fdstat_set_flags": ("ii>i", ERRNO_NOSYS),
    "fd_fdstat_set_rights": ("iII>i", None),
    "fd_filestat_get": ("ii>i", ERRNO_BADF),
    "fd_filestat_set_size": ("iI>i", None),
    "fd_filestat_set_times": ("iIIi>i", None),
    "fd_pread": ("iiiIi>i", ERRNO_NOSYS),
    "fd_prestat_get": ("ii>i", ERRNO_BADF),
    "fd_prestat_dir_name": ("iii>i", ERRNO_NOSYS),
    "fd_pwrite": ("iiiIi>i", None),
    "fd_read": ("iiii>i", ERRNO_NOSYS),
    "fd_readdir": ("iiiIi>i", ERRNO_NOSYS),
    "fd_renumber": ("ii>i", ERRNO_BADF),
    "fd_seek": ("iIii>i", 0),
    "fd_sync": ("i>i", None),
    "fd_tell": ("ii>i", None),
    "fd_write": ("iiii>i", None),
    "path_create_directory": ("iii>i", ERRNO_NOTSUP),
    "path_filestat_get": ("iiiii>i", ERRNO_NOTSUP),
    "path_filestat_set_times": ("iiiiIIi>i", ERRNO_NOTSUP),
    "path_link": ("iiiiiii>i", ERRNO_NOTSUP),
    "path_open": ("iiiiiIIii>i", ERRNO_NOENT),
    "path_readlink": ("iiiiii>i", ERRNO_NOTSUP),
    "path_remove_directory": ("iii>i", ERRNO_NOTSUP),
    "path_rename": ("iiiiii>i", ERRNO_NOTSUP),
    "path_symlink": ("iiiii>i", ERRNO_NOTSUP),
    "path_unlink_file": ("iii>i", ERRNO_NOTSUP),
    "poll_oneoff": ("iiii>i", None),
    "proc_exit": ("i>", None),
    "proc_raise": ("i>i", ERRNO_NOTSUP),
    "random_get": ("ii>i", None),
    "sched_yield": (">i", 0),
    "sock_accept": ("iii>i", ERRNO_NOTSUP),
    "sock_recv": ("iiiiii>i", ERRNO_NOTSUP),
    "sock_send": ("iiiii>i", ERRNO_NOTSUP),
    "sock_shutdown": ("ii>i", ERRNO_NOTSUP),
}
