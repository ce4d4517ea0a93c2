"""What the arguments of callbacks and host functions mean, so that a transcript can show them.

The law: one row for each name of the ABI. A row's words are `name:kind` in the order of the parameters; a word with `=` before
it is something that the function answers through a pointer; one with `>` is a callback's result. A kind says how many Wasm
parameters it takes: one number (`int` and the named numbers), or an address and a size (`text`, `pairs`, `path`); answered,
those are two addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from shared.proxy_wasm.abi import LogLevel, Status

# Named numbers. Some tables of the ABI are longer than what abi.py needs of them.
NAMES: dict[str, tuple[str, ...]] = {
    "level": tuple(level.name for level in LogLevel),
    "map": (
        *("REQUEST_HEADERS", "REQUEST_TRAILERS", "RESPONSE_HEADERS", "RESPONSE_TRAILERS", "GRPC_INITIAL_METADATA"),
        *("GRPC_TRAILING_METADATA", "HTTP_CALL_RESPONSE_HEADERS", "HTTP_CALL_RESPONSE_TRAILERS"),
    ),
    "buffer": (
        *("REQUEST_BODY", "RESPONSE_BODY", "DOWNSTREAM_DATA", "UPSTREAM_DATA", "HTTP_CALL_RESPONSE_BODY"),
        *("GRPC_MESSAGE", "VM_CONFIGURATION", "PLUGIN_CONFIGURATION", "FOREIGN_FUNCTION_ARGUMENTS"),
    ),
    "stream": ("REQUEST", "RESPONSE", "DOWNSTREAM", "UPSTREAM"),
    "metric": ("COUNTER", "GAUGE", "HISTOGRAM"),
    "peer": ("UNKNOWN", "LOCAL", "REMOTE"),
    "action": ("CONTINUE", "PAUSE"),
    "bool": ("false", "true"),
}
STATUS_NAMES = {int(status): status.name for status in Status}
# Two Wasm parameters each; every other kind takes one.
WIDE = frozenset({"text", "pairs", "path"})

CALLBACKS = {
    "proxy_on_context_create": "context:int parent:int",
    "proxy_on_vm_start": "context:int configuration_size:int >bool",
    "proxy_on_configure": "context:int configuration_size:int >bool",
    "proxy_on_tick": "context:int",
    "proxy_on_done": "context:int >bool",
    "proxy_on_log": "context:int",
    "proxy_on_delete": "context:int",
    "proxy_on_new_connection": "context:int >action",
    "proxy_on_downstream_data": "context:int size:int end_of_stream:bool >action",
    "proxy_on_downstream_connection_close": "context:int peer:peer",
    "proxy_on_upstream_data": "context:int size:int end_of_stream:bool >action",
    "proxy_on_upstream_connection_close": "context:int peer:peer",
    "proxy_on_request_headers": "context:int headers:int end_of_stream:bool >action",
    "proxy_on_request_body": "context:int size:int end_of_stream:bool >action",
    "proxy_on_request_trailers": "context:int trailers:int >action",
    "proxy_on_response_headers": "context:int headers:int end_of_stream:bool >action",
    "proxy_on_response_body": "context:int size:int end_of_stream:bool >action",
    "proxy_on_response_trailers": "context:int trailers:int >action",
    "proxy_on_http_call_response": "context:int call:int headers:int body_size:int trailers:int",
    "proxy_on_grpc_receive_initial_metadata": "context:int call:int headers:int",
    "proxy_on_grpc_receive": "context:int call:int message_size:int",
    "proxy_on_grpc_receive_trailing_metadata": "context:int call:int trailers:int",
    "proxy_on_grpc_close": "context:int call:int grpc_status:int",
    "proxy_on_queue_ready": "context:int queue:int",
    "proxy_on_foreign_function": "context:int function:int arguments_size:int",
}

HOST_FUNCTIONS = {
    "proxy_log": "level:level message:text",
    "proxy_get_log_level": "=level:level",
    "proxy_get_current_time_nanoseconds": "=time:time",
    "proxy_set_tick_period_milliseconds": "period:int",
    "proxy_set_effective_context": "context:int",
    "proxy_done": "",
    "proxy_get_buffer_bytes": "buffer:buffer start:int max_size:int =data:text",
    "proxy_set_buffer_bytes": "buffer:buffer start:int size:int data:text",
    "proxy_get_buffer_status": "buffer:buffer =size:int =flags:int",
    "proxy_get_header_map_size": "map:map =size:int",
    "proxy_get_header_map_pairs": "map:map =pairs:pairs",
    "proxy_set_header_map_pairs": "map:map pairs:pairs",
    "proxy_get_header_map_value": "map:map key:text =value:text",
    "proxy_add_header_map_value": "map:map key:text value:text",
    "proxy_replace_header_map_value": "map:map key:text value:text",
    "proxy_remove_header_map_value": "map:map key:text",
    "proxy_continue_stream": "stream:stream",
    "proxy_close_stream": "stream:stream",
    "proxy_send_local_response": "status:int details:text body:text headers:pairs grpc_status:signed",
    "proxy_get_status": "=code:int =message:text",
    "proxy_http_call": "upstream:text headers:pairs body:text trailers:pairs timeout:int =call:int",
    "proxy_grpc_call": "upstream:text service:text method:text initial_metadata:pairs message:text timeout:int =call:int",
    "proxy_grpc_stream": "upstream:text service:text method:text initial_metadata:pairs =stream:int",
    "proxy_grpc_send": "stream:int message:text end_of_stream:bool",
    "proxy_grpc_cancel": "call:int",
    "proxy_grpc_close": "call:int",
    "proxy_get_shared_data": "key:text =value:text =cas:int",
    "proxy_set_shared_data": "key:text value:text cas:int",
    "proxy_register_shared_queue": "name:text =queue:int",
    "proxy_resolve_shared_queue": "vm_id:text name:text =queue:int",
    "proxy_enqueue_shared_queue": "queue:int data:text",
    "proxy_dequeue_shared_queue": "queue:int =data:text",
    "proxy_define_metric": "kind:metric name:text =metric:int",
    "proxy_increment_metric": "metric:int delta:signed",
    "proxy_record_metric": "metric:int value:wide",
    "proxy_get_metric": "metric:int =value:wide",
    "proxy_get_property": "path:path =value:text",
    "proxy_set_property": "path:path value:text",
    "proxy_call_foreign_function": "function:text arguments:text =results:text",
    "proxy_get_configuration": "=configuration:text",
    "proxy_continue_request": "",
    "proxy_continue_response": "",
    "proxy_clear_route_cache": "",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One argument. `at` is its first Wasm parameter."""

    name: str
    kind: str
    at: int
    is_answer: bool

    @property
    def is_wide(self) -> bool:
        return self.kind in WIDE


@dataclass(frozen=True, slots=True)
class Signature:
    """`result` is the kind of a callback's result, or empty."""

    parts: tuple[Part, ...]
    result: str
    width: int


def _read(row: str) -> Signature:
    parts, result, at = list[Part](), "", 0
    for word in row.split():
        if word[0] == ">":
            result = word[1:]
            continue
        name, _, kind = word.removeprefix("=").partition(":")
        parts.append(Part(name, kind, at, word[0] == "="))
        at += 1 + (kind in WIDE)
    return Signature(tuple(parts), result, at)


@cache
def callback_signature(name: str) -> Signature | None:
    return _read(CALLBACKS[name]) if name in CALLBACKS else None


@cache
def host_signature(name: str) -> Signature | None:
    return _read(HOST_FUNCTIONS[name]) if name in HOST_FUNCTIONS else None
