"""What the core asks of Python for an HTTP or gRPC call: the operands read, the calls of the VM told.

The law: one row for each code of core/core.h, answering (status, id). What is malformed is BAD_ARGUMENT, as is in Envoy's host
a timeout that is negative as a signed number; whether the request makes sense is for who performs it to say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.proxy_wasm import pairs
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import GrpcRequest, HttpRequest
from shared.proxy_wasm.pairs import PairsError

if TYPE_CHECKING:
    from shared.proxy_wasm.operations import Operands
    from shared.proxy_wasm.vm import PluginVM

_MOST_MILLISECONDS = (1 << 31) - 1


def _http_call(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    upstream, fields, body, trailers = _strings(op, 4)
    if op.number > _MOST_MILLISECONDS:
        return Status.BAD_ARGUMENT, 0
    try:
        request = HttpRequest(upstream, pairs.decode(fields), body, pairs.decode(trailers), op.number)
    except PairsError:
        return Status.BAD_ARGUMENT, 0
    return vm.calls.http(op, request)


def _grpc_call(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    upstream, service, method, metadata, message = _strings(op, 5)
    if op.number > _MOST_MILLISECONDS:
        return Status.BAD_ARGUMENT, 0
    try:
        request = GrpcRequest(upstream, service, method, pairs.decode(metadata), message, op.number)
    except PairsError:
        return Status.BAD_ARGUMENT, 0
    return vm.calls.grpc(op, request)


def _grpc_stream(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    upstream, service, method, metadata = _strings(op, 4)
    try:
        request = GrpcRequest(upstream, service, method, pairs.decode(metadata), None, 0)
    except PairsError:
        return Status.BAD_ARGUMENT, 0
    return vm.calls.grpc(op, request)


def _grpc_send(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    (message,) = _strings(op, 1)
    return vm.calls.grpc_send(op.number, message, bool(op.second_number)), 0


def _grpc_cancel(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    return vm.calls.grpc_cancel(op.number), 0


def _grpc_close(vm: PluginVM, op: Operands) -> tuple[Status, int]:
    return vm.calls.grpc_close(op.number), 0


def _strings(op: Operands, count: int) -> list[bytes]:
    """What core/callout.c packed: the sizes, then the strings."""
    packed, at, found = op.first, 4 * count, []
    for size in struct.unpack_from(f"<{count}I", packed):
        found.append(packed[at : at + size])
        at += size
    return found


OPERATIONS: dict[int, Callable[[PluginVM, Operands], tuple[Status, int]]] = {
    32: _http_call,
    33: _grpc_call,
    34: _grpc_stream,
    35: _grpc_send,
    36: _grpc_cancel,
    37: _grpc_close,
}
