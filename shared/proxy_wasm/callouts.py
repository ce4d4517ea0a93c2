"""The HTTP and gRPC calls of one VM: their ids, whose they are, and what is told of them.

The law: a call belongs to the PluginContext that made it and ends with it, silently; every other end is told to the plugin,
exactly once. Who performs calls (`Callouts`) tells what happens through the call's own methods, never before its own method has
returned, since the guest must know the id first.

A call that a stream made outlives it, as in Envoy. So the stream's id is not used again before the call ended too: plugins find
the stream of a call by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared.proxy_wasm import pairs
from shared.proxy_wasm.abi import BufferType, MapType, Status
from shared.proxy_wasm.contexts import HeldStreamIds
from shared.proxy_wasm.failures import GuestTrap
from shared.proxy_wasm.pairs import Pairs

if TYPE_CHECKING:
    from shared.proxy_wasm.calls import Call as CoreCall
    from shared.proxy_wasm.calls import Core
    from shared.proxy_wasm.operations import Operands
    from shared.proxy_wasm.vm import HttpContext, PluginContext, PluginVM

# The two low bits of an id, as in Envoy's host: a plugin's mistake about the kind can be told from an unknown id.
HTTP, GRPC_CALL, GRPC_STREAM = range(3)
# core/received.c
_HTTP_RESPONSE, _GRPC_INITIAL_METADATA, _GRPC_MESSAGE, _GRPC_TRAILING_METADATA, _GRPC_CLOSE, _FOREIGN_FUNCTION = range(6)
# What proxy_get_status says of an HTTP call without a response; it has no name in the ABI (Envoy: BrokenConnection).
_NO_RESPONSE = 11
# 32 bits without the two of the kind.
_LAST_NUMBER = (1 << 30) - 1


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """As the plugin wrote it: nothing is checked. Without a timeout (0) only the upstream's own apply."""

    upstream: bytes
    fields: Pairs
    body: bytes
    trailers: Pairs
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A unary call has a message, a stream has None."""

    upstream: bytes
    service: bytes
    method: bytes
    metadata: Pairs
    message: bytes | None
    timeout_ms: int


class CallHandle(Protocol):
    """A call, to whoever made it."""

    def cancel(self) -> None:
        """Nothing of it is told any more."""

    def abandon(self) -> None:
        """Nobody waits for it: stop, and tell that it failed, but not before this returned."""


class GrpcHandle(CallHandle, Protocol):
    def send(self, message: bytes, eos: bool) -> Status: ...

    def close(self) -> None:
        """No more messages will be sent."""


class Callouts(Protocol):
    """Performs the calls of one plugin's VM. A status other than OK: there is no call, and nothing will be told.

    With `holds_requests` a request waits for the HTTP calls of its callbacks whatever these answered, as in APISIX.
    """

    @property
    def holds_requests(self) -> bool: ...

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]: ...

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]: ...


class PendingCall:
    """A call that has not ended. What happens to it, each as one callback of its PluginContext; all of them raise VmFailed.

    `respond`, `fail`, `answer` and `close` end it; what is told after the end has no effect.
    """

    __slots__ = ("_calls", "_ended", "grpc", "handle", "id", "root", "stream")

    def __init__(self, calls: Calls, call_id: int, root: PluginContext, stream: HttpContext | None) -> None:
        self._calls = calls
        self._ended = False
        self.id = call_id
        self.root = root
        self.stream = stream
        self.handle: CallHandle | None = None
        self.grpc: GrpcHandle | None = None

    def end(self) -> None:
        """Also lets go of the handle, which knows this call: no cycle is left for the collector."""
        self._ended = True
        self.handle = self.grpc = None

    def respond(self, fields: Pairs, body: bytes, trailers: Pairs) -> None:
        """HTTP: the response, `:status` first."""
        if not self._ended:
            self._calls.receive_map(MapType.CALL_RESPONSE_HEADERS, fields)
            self._calls.receive_map(MapType.CALL_RESPONSE_TRAILERS, trailers)
            self._calls.receive_body(BufferType.CALL_RESPONSE_BODY, body)
            self._calls.receive_status(Status.OK, b"")
            self._calls.last(self, _HTTP_RESPONSE)

    def fail(self, reason: bytes) -> None:
        """HTTP: there is no response."""
        if not self._ended:
            self._calls.receive_status(_NO_RESPONSE, reason)
            self._calls.last(self, _HTTP_RESPONSE)

    def initial_metadata(self, fields: Pairs) -> None:
        if not self._ended:
            self._calls.receive_map(MapType.GRPC_INITIAL_METADATA, fields)
            self._calls.tell(self, _GRPC_INITIAL_METADATA)

    def message(self, data: bytes) -> None:
        if not self._ended:
            self._calls.receive_body(BufferType.GRPC_MESSAGE, data)
            self._calls.tell(self, _GRPC_MESSAGE)

    def trailing_metadata(self, fields: Pairs) -> None:
        if not self._ended:
            self._calls.receive_map(MapType.GRPC_TRAILING_METADATA, fields)
            self._calls.tell(self, _GRPC_TRAILING_METADATA)

    def answer(self, data: bytes) -> None:
        """gRPC: the one message of a unary call that succeeded."""
        if not self._ended:
            self._calls.receive_body(BufferType.GRPC_MESSAGE, data)
            self._calls.receive_status(Status.OK, b"")
            self._calls.last(self, _GRPC_MESSAGE)

    def close(self, status: int, message: bytes) -> None:
        """gRPC: the end of a stream, or the failure of a unary call."""
        if not self._ended:
            self._calls.receive_status(status, message)
            self._calls.last(self, _GRPC_CLOSE)


class Calls:
    """All calls of one VM that have not ended, and the core's part in telling of them."""

    def __init__(self, vm: PluginVM, core: Core, cpu_seconds: float, callouts: Callouts | None) -> None:
        self._vm = vm
        self._callouts = callouts
        self._limit = vm.settings.limits.pending_callouts
        self._receive_map, self._receive_body = core.call("receive_map", 2), core.call("receive_body", 2)
        self._receive_status = core.call("receive_status", 2)
        self.root_call = core.phase("root_call", 4, cpu_seconds)
        self._pending: dict[int, PendingCall] = {}
        self._made = 0
        if callouts is not None and callouts.holds_requests:
            core.call("set_waits_for_calls", 0)()

    def __len__(self) -> int:
        return len(self._pending)

    # --- what plugins ask

    def http(self, op: Operands, request: HttpRequest) -> tuple[Status, int]:
        if self._callouts is None:
            return Status.UNIMPLEMENTED, 0
        call = self._new(op, HTTP)
        if call is None:
            return Status.INTERNAL_FAILURE, 0
        status, call.handle = self._callouts.http(call, request)
        return self._begun(call, status)

    def grpc(self, op: Operands, request: GrpcRequest) -> tuple[Status, int]:
        if self._callouts is None:
            return Status.UNIMPLEMENTED, 0
        call = self._new(op, GRPC_STREAM if request.message is None else GRPC_CALL)
        if call is None:
            return Status.INTERNAL_FAILURE, 0
        status, call.grpc = self._callouts.grpc(call, request)
        call.handle = call.grpc
        return self._begun(call, status)

    def grpc_send(self, call_id: int, message: bytes, eos: bool) -> Status:
        status, handle = self._grpc_handle(call_id, (GRPC_STREAM,))
        return status if handle is None else handle.send(message, eos)

    def grpc_cancel(self, call_id: int) -> Status:
        status, handle = self._grpc_handle(call_id, (GRPC_CALL, GRPC_STREAM))
        if handle is not None:
            self._cancel(self._pending[call_id])
        return status

    def grpc_close(self, call_id: int) -> Status:
        """Of a unary call: it is cancelled, as in Envoy."""
        status, handle = self._grpc_handle(call_id, (GRPC_CALL, GRPC_STREAM))
        if handle is not None and call_id & 3 == GRPC_STREAM:
            handle.close()
        elif handle is not None:
            self._cancel(self._pending[call_id])
        return status

    # --- ends

    def drop(self, root: PluginContext) -> None:
        """The PluginContext is gone."""
        for call in [call for call in self._pending.values() if call.root is root]:
            self._cancel(call)

    def close(self) -> None:
        """The VM is gone."""
        for call in list(self._pending.values()):
            self._cancel(call)

    def abandon(self, stream: HttpContext) -> None:
        """Nobody waits for what the stream asked: its calls stop, and the plugin hears that they failed."""
        for call in [call for call in self._pending.values() if call.stream is stream]:
            if call.handle is not None:
                call.handle.abandon()

    # --- what is told

    def receive_map(self, map_type: MapType, fields: Pairs) -> None:
        self._receive(self._receive_map, map_type, pairs.encode(fields))

    def receive_body(self, buffer_type: BufferType, data: bytes) -> None:
        self._receive(self._receive_body, buffer_type, data)

    def receive_status(self, status: int, message: bytes) -> None:
        self._receive(self._receive_status, status, message)

    def tell(self, call: PendingCall, event: int) -> None:
        vm, root, stream = self._vm, call.root, call.stream
        vm.call(self.root_call, root.id, event, call.id, 0 if stream is None else stream.id)
        vm.settle_root(root)

    def last(self, call: PendingCall, event: int) -> None:
        self._forget(call)
        try:
            self.tell(call, event)
        finally:
            self._let_id_go(call)

    def foreign_function(self, root: PluginContext, function: int, arguments: bytes) -> None:
        """proxy_on_foreign_function: no call of the plugin's, but told in the same way."""
        self.receive_body(BufferType.FOREIGN_ARGUMENTS, arguments)
        self._vm.call(self.root_call, root.id, _FOREIGN_FUNCTION, function, 0)
        self._vm.settle_root(root)

    def _receive(self, function: CoreCall, kind: int, data: bytes) -> None:
        vm = self._vm
        vm.write(data)
        if vm.call(function, kind, len(data)) < 0:
            raise vm.fail(GuestTrap("out_of_memory", "no room for what a call brought in the plugin's memory"))

    # --- the books

    def _new(self, op: Operands, kind: int) -> PendingCall | None:
        """None when there are too many, or nobody to tell."""
        root = self._vm.roots.get(op.root_id)
        if root is None or len(self._pending) >= self._limit:
            return None
        while True:
            self._made = self._made % _LAST_NUMBER + 1
            call_id = self._made << 2 | kind
            if call_id not in self._pending:
                return PendingCall(self, call_id, root, self._vm.streams.get(op.context_id))

    def _begun(self, call: PendingCall, status: Status) -> tuple[Status, int]:
        if status is not Status.OK:
            call.end()
            return status, 0
        self._pending[call.id] = call
        if call.stream is not None:
            root = call.root
            if not isinstance(root.ids, HeldStreamIds):
                root.ids = HeldStreamIds(root.ids)
            root.ids.hold(call.stream.id)
        return Status.OK, call.id

    def _grpc_handle(self, call_id: int, kinds: tuple[int, ...]) -> tuple[Status, GrpcHandle | None]:
        if self._callouts is None:
            return Status.UNIMPLEMENTED, None
        if call_id & 3 not in kinds:
            return Status.BAD_ARGUMENT, None
        call = self._pending.get(call_id)
        if call is None:
            return Status.NOT_FOUND, None
        return Status.OK, call.grpc

    def _forget(self, call: PendingCall) -> None:
        call.end()
        del self._pending[call.id]

    def _cancel(self, call: PendingCall) -> None:
        handle = call.handle
        self._forget(call)
        self._let_id_go(call)
        if handle is not None:
            handle.cancel()

    def _let_id_go(self, call: PendingCall) -> None:
        ids = call.root.ids
        if call.stream is not None and isinstance(ids, HeldStreamIds):
            ids.let_go(call.stream.id)
