"""What the core asks of Python while a call runs: properties, timers, and what plugins share.

The law: one row of OPERATIONS for each code of core/core.h; an operation answers and never raises, and never calls into the
VM. Its bytes come out of the core's memory and its answer goes back there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.proxy_wasm import call_operations, nginx, properties
from shared.proxy_wasm.abi import LogLevel, MapType, Status
from shared.proxy_wasm.calls import Core
from shared.proxy_wasm.failures import GuestTrap
from shared.proxy_wasm.foreign.call import ForeignCall

if TYPE_CHECKING:
    from shared.proxy_wasm.services import SharedServices
    from shared.proxy_wasm.vm import HttpContext, PluginVM

_OP = struct.Struct("<10I")
_OUT_SIZE_OFFSET, _OUT_NUMBER_OFFSET = 32, 36
_U64 = struct.Struct("<Q")


@dataclass(slots=True)
class Answer:
    status: int
    data: bytes = b""
    number: int = 0


class Operands:
    """The core's `op` structure. `first` and `second` are byte strings, `number` and `wide` (64 bits) numbers."""

    __slots__ = ("_core", "_fields", "context_id", "number", "root_id")

    def __init__(self, core: Core, fields: tuple[int, ...]) -> None:
        self._core = core
        self._fields = fields
        self.context_id, self.root_id, self.number = fields[0], fields[1], fields[6]

    @property
    def first(self) -> bytes:
        return self._core.read(self._fields[2], self._fields[3])

    @property
    def second(self) -> bytes:
        return self._core.read(self._fields[4], self._fields[5])

    @property
    def second_number(self) -> int:
        return self._fields[7]

    @property
    def wide(self) -> int:
        return self._fields[2] | self._fields[3] << 32


def _get_property(vm: PluginVM, op: Operands) -> Answer:
    path = op.first
    parts = properties.segments(path)
    value = properties.plugin_property(parts, vm.settings.plugin_name, vm.settings.node)
    stream = vm.streams.get(op.context_id)
    if value is None and stream is not None:
        if vm.settings.dialect == "apisix" and nginx.is_variable(path):
            value = nginx.variable(path, _message(vm, stream))
        else:
            value = _stream_property(vm, stream, parts)
        if value is None:
            value = properties.plugins_own(stream.owner.plugin_properties(), path)
    return Answer(Status.NOT_FOUND) if value is None else Answer(Status.OK, value)


def _message(vm: PluginVM, stream: HttpContext) -> nginx.Message:
    request, response = (vm.show_map(stream, kind) or () for kind in (MapType.REQUEST_HEADERS, MapType.RESPONSE_HEADERS))
    return nginx.Message(stream.owner.facts, request, response)


_TOTAL_SIZES: dict[tuple[bytes, ...], MapType] = {
    (b"request", b"total_size"): MapType.REQUEST_HEADERS,
    (b"response", b"total_size"): MapType.RESPONSE_HEADERS,
}


def _stream_property(vm: PluginVM, stream: HttpContext, path: tuple[bytes, ...]) -> bytes | None:
    facts, map_type = stream.owner.facts, _TOTAL_SIZES.get(path)
    if map_type is None:
        return properties.stream_property(path, facts)
    body = facts.request_bytes if map_type is MapType.REQUEST_HEADERS else facts.response_bytes
    return properties.total_size(vm.show_map(stream, map_type), body)


def _set_property(vm: PluginVM, op: Operands) -> Answer:
    stream = vm.streams.get(op.context_id)
    if stream is None:
        return Answer(Status.NOT_FOUND)
    path, own = op.first, stream.owner.plugin_properties()
    if vm.settings.dialect == "apisix":
        return Answer(Status.INTERNAL_FAILURE if nginx.is_variable(path) else Status.NOT_FOUND)
    if path in own and stream.root.declared.get(path):
        return Answer(Status.BAD_ARGUMENT)
    own[path] = op.second
    return Answer(Status.OK)


def _call_foreign_function(vm: PluginVM, op: Operands) -> Answer:
    function, root = vm.settings.foreign.get(op.first), vm.roots.get(op.root_id)
    if function is None or root is None:
        return Answer(Status.NOT_FOUND)
    call = ForeignCall(vm, root, vm.streams.get(op.context_id), op.second)
    try:
        result = function(call)
    except Exception as error:  # native code of somebody else
        call.log(LogLevel.ERROR, f"foreign function {op.first.decode(errors='replace')}: {type(error).__name__}: {error}")
        return Answer(Status.INTERNAL_FAILURE)
    return Answer(Status.OK, result) if isinstance(result, bytes) else Answer(result)


def _final_head(vm: PluginVM, op: Operands) -> Answer:
    stream = vm.streams.get(op.context_id)
    head = None if stream is None else stream.finals[op.number == MapType.RESPONSE_HEADERS]
    return Answer(Status.NOT_FOUND) if head is None else Answer(Status.OK, head)


def _set_tick_period(vm: PluginVM, op: Operands) -> Answer:
    root = vm.roots.get(op.root_id)
    if root is None:
        return Answer(Status.BAD_ARGUMENT)
    vm.observer.set_tick_period(root, op.number)
    return Answer(Status.OK)


def _call(operation: Called) -> Own:
    def perform(vm: PluginVM, op: Operands) -> Answer:
        status, number = operation(vm, op)
        return Answer(status, number=number)

    return perform


def _get_data(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    return Answer(*services.get_data(op.first))


def _register_queue(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    root = vm.roots.get(op.root_id)
    if root is None:
        return Answer(Status.BAD_ARGUMENT)
    status, queue = services.register_queue(root, op.first)
    return Answer(status, number=queue)


def _resolve_queue(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    status, queue = services.resolve_queue(op.first, op.second)
    return Answer(status, number=queue)


def _define_metric(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    status, metric = services.define_metric(op.number, op.first)
    return Answer(status, number=metric)


def _increment_metric(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    delta = op.wide
    return Answer(services.increment_metric(op.number, delta - (1 << 64) if delta >> 63 else delta))


def _get_metric(services: SharedServices, vm: PluginVM, op: Operands) -> Answer:
    status, value = services.get_metric(op.number)
    return Answer(status, _U64.pack(value))


Own = Callable[["PluginVM", Operands], Answer]
Called = Callable[["PluginVM", Operands], tuple[Status, int]]
Shared = Callable[["SharedServices", "PluginVM", Operands], Answer]

OWN: dict[int, Own] = {1: _get_property, 2: _set_property, 3: _set_tick_period, 14: _call_foreign_function, 15: _final_head}
OWN |= {code: _call(operation) for code, operation in call_operations.OPERATIONS.items()}
SHARED: dict[int, Shared] = {
    4: _get_data,
    5: lambda services, vm, op: Answer(services.set_data(op.first, op.second, op.number)),
    6: _register_queue,
    7: _resolve_queue,
    8: lambda services, vm, op: Answer(services.enqueue(op.number, op.first)),
    9: lambda services, vm, op: Answer(*services.dequeue(op.number)),
    10: _define_metric,
    11: _increment_metric,
    12: lambda services, vm, op: Answer(services.record_metric(op.number, op.wide)),
    13: _get_metric,
}


class Operations:
    """One VM's operations: bound to its core once that is linked."""

    __slots__ = ("_core", "_out_number", "_out_size", "_read", "_services", "_vm")

    def __init__(self, vm: PluginVM, services: SharedServices | None) -> None:
        self._vm = vm
        self._services = services

    def bind(self, core: Core, address: int) -> None:
        self._core = core
        self._read = core.reader(_OP, address)
        self._out_size = core.word(address + _OUT_SIZE_OFFSET)
        self._out_number = core.word(address + _OUT_NUMBER_OFFSET)

    def __call__(self, code: int) -> int:
        operands = Operands(self._core, self._read())
        own = OWN.get(code)
        if own is not None:
            answer = own(self._vm, operands)
        elif self._services is None:
            return Status.UNIMPLEMENTED
        else:
            answer = SHARED[code](self._services, self._vm, operands)
        if answer.data:
            try:
                self._core.write(answer.data)
            except GuestTrap:
                return Status.INTERNAL_FAILURE
        self._out_size[0] = len(answer.data)
        self._out_number[0] = answer.number
        return answer.status
