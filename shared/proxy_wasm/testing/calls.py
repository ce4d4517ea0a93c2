"""A plugin's calls to others, answered by the test.

The law: nothing is sent anywhere. A call waits until the test (or the handler that it gave) says what became of it; the plugin
hears of it when its own callback has returned, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.callouts import CallHandle, GrpcHandle, GrpcRequest, HttpRequest, PendingCall
from shared.proxy_wasm.testing.messages import Fields, Headers, Response, as_bytes, as_text

# Without one of these Envoy makes no call.
_NEEDED = (b":method", b":path", b":authority")

Settle = Callable[[Callable[[], None]], None]
NO_RESPONSE = b"no response"


@dataclass(slots=True)
class HttpCall:
    """`proxy_http_call`. `pending` until it was answered, or the plugin does not want it any more."""

    upstream: str
    method: str
    path: str
    authority: str
    headers: Headers
    body: bytes
    trailers: Headers
    timeout_ms: int
    pending: bool = True
    _tell: PendingCall | None = field(default=None, repr=False)
    _settle: Settle | None = field(default=None, repr=False)

    def respond(self, response: Response, trailers: Fields = ()) -> None:
        status = (b":status", b"%d" % response.status)
        fields = (status, *_encoded(response.headers))
        self._end(lambda call: call.respond(fields, response.body, _encoded(Headers(trailers))))

    def fail(self, reason: str = "timeout") -> None:
        """There is no response: refused, reset, or too late."""
        self._end(lambda call: call.fail(as_bytes(reason)))

    def _end(self, tell: Callable[[PendingCall], None]) -> None:
        call, settle = self._tell, self._settle
        if not self.pending or call is None or settle is None:
            raise RuntimeError(f"the call to {self.upstream} has ended")
        self.pending = False
        settle(lambda: tell(call))

    # CallHandle

    def cancel(self) -> None:
        self.pending = False

    def abandon(self) -> None:
        if self.pending:
            self.fail("nobody waits for it")


@dataclass(slots=True)
class GrpcCall:
    """`proxy_grpc_call` (its message in `sent`) or `proxy_grpc_stream`."""

    upstream: bytes
    service: str
    method: str
    metadata: Headers
    is_stream: bool
    timeout_ms: int
    sent: list[bytes]
    pending: bool = True
    closed_by_plugin: bool = False
    _tell: PendingCall | None = field(default=None, repr=False)
    _settle: Settle | None = field(default=None, repr=False)

    def receive_initial_metadata(self, metadata: Fields) -> None:
        self._do(lambda call: call.initial_metadata(_encoded(Headers(metadata))))

    def receive(self, message: bytes) -> None:
        """A message; the only one of a unary call, which it ends."""
        if not self.is_stream:
            self._do(lambda call: call.answer(message))
            self.pending = False
        else:
            self._do(lambda call: call.message(message))

    def receive_trailing_metadata(self, metadata: Fields) -> None:
        self._do(lambda call: call.trailing_metadata(_encoded(Headers(metadata))))

    def close_with(self, status: int, message: str = "") -> None:
        """The end of a stream, or the failure of a unary call."""
        self._do(lambda call: call.close(status, as_bytes(message)))
        self.pending = False

    def _do(self, tell: Callable[[PendingCall], None]) -> None:
        call, settle = self._tell, self._settle
        if not self.pending or call is None or settle is None:
            raise RuntimeError(f"the call of {self.service}/{self.method} has ended")
        settle(lambda: tell(call))

    # GrpcHandle

    def send(self, message: bytes, eos: bool) -> Status:
        self.sent.append(message)
        self.closed_by_plugin |= eos
        return Status.OK

    def close(self) -> None:
        self.closed_by_plugin = True

    def cancel(self) -> None:
        self.pending = False

    def abandon(self) -> None:
        if self.pending:
            self.close_with(1, "nobody waits for it")


Handler = Callable[[HttpCall], "Response | None"]


class Answers:
    """Callouts of one VM. `settle` runs what it is given once no callback runs."""

    def __init__(self, handler: Handler | None, settle: Settle, *, apisix: bool = False) -> None:
        self.holds_requests = apisix
        self.made: list[HttpCall | GrpcCall] = []
        self._handler = handler
        self._settle = settle

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]:
        pseudo = dict(field for field in request.fields if field[0][:1] == b":")
        if self.holds_requests:
            pseudo = {b":method": b"GET", b":path": b"/", b":authority": request.upstream} | pseudo
        if any(name not in pseudo for name in _NEEDED):
            return Status.BAD_ARGUMENT, None
        method, path, authority = (as_text(pseudo[name]) for name in _NEEDED)
        headers = _decoded(field for field in request.fields if field[0][:1] != b":")
        made = HttpCall(
            *(as_text(request.upstream), method, path, authority, headers, request.body),
            *(_decoded(request.trailers), request.timeout_ms),
        )
        made._tell, made._settle = call, self._settle
        self.made.append(made)
        if self._handler is not None:
            response = self._handler(made)
            if response is not None and made.pending:
                made.respond(response)
        return Status.OK, made

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        made = GrpcCall(
            *(request.upstream, as_text(request.service), as_text(request.method), _decoded(request.metadata)),
            *(request.message is None, request.timeout_ms, [] if request.message is None else [request.message]),
        )
        made._tell, made._settle = call, self._settle
        self.made.append(made)
        return Status.OK, made


def _encoded(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((as_bytes(name), as_bytes(value)) for name, value in headers)


def _decoded(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    return Headers([(as_text(name), as_text(value)) for name, value in fields])
