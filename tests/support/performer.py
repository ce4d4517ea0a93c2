"""Callouts that only keep what they are asked: a test is the other servers."""

from __future__ import annotations

from collections.abc import Callable

from data_plane.callout.waiting import watch
from data_plane.config.snapshot import WasmPlugin
from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import CallHandle, Callouts, GrpcHandle, GrpcRequest, HttpRequest, PendingCall
from shared.proxy_wasm.failures import VmFailed


class Handle:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def cancel(self) -> None:
        self.log.append("cancel")

    def abandon(self) -> None:
        self.log.append("abandon")

    def send(self, message: bytes, eos: bool) -> Status:
        self.log.append(f"send {message.decode()}{' eos' if eos else ''}")
        return Status.OK

    def close(self) -> None:
        self.log.append("close")


class Performer:
    """Callouts of every VM, and the CallProvider of a runtime. `log` is what became of the calls."""

    def __init__(self) -> None:
        self.holds_requests = False
        self.status = Status.OK
        self.requests: list[HttpRequest | GrpcRequest] = []
        self.calls: list[PendingCall] = []
        self.log: list[str] = []

    def callouts(self, plugin: WasmPlugin, failed: Callable[[VmFailed], None]) -> Callouts:
        return self

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]:
        return self._take(call, request)

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        return self._take(call, request)

    def _take(self, call: PendingCall, request: HttpRequest | GrpcRequest) -> tuple[Status, Handle | None]:
        self.requests.append(request)
        self.calls.append(call)
        if self.status is not Status.OK:
            return self.status, None
        watch(call.stream)
        return Status.OK, Handle(self.log)
