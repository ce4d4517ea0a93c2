"""gRPC calls and streams, as a plugin makes them and hears of them."""

from __future__ import annotations

from shared.proxy_wasm.callouts import GrpcRequest
from tests.conformance.calls import ASK, CALL, Caller, do, row
from tests.conformance.stage import Stage
from tests.conformance.table import TABLE

GRPC, STREAM = "proxy_grpc_call", "proxy_grpc_stream"
SEND, CANCEL, CLOSE = "proxy_grpc_send", "proxy_grpc_cancel", "proxy_grpc_close"

UNARY = "grpc_call auth pkg.Svc Check 500 message a=1"
BOTH_WAYS = "grpc_stream auth pkg.Svc Chat a=1"


@row(GRPC, "upstream, service, method, metadata, message and timeout are what is asked", *do(UNARY))
def _(stage: Stage, caller: Caller) -> None:
    request = GrpcRequest(b"auth", b"pkg.Svc", b"Check", ((b"a", b"1"),), b"message", 500)
    stage.expect((caller.performer.requests, caller.answers[0][:3]), ([request], "OK "))


@row(
    "proxy_on_grpc_receive",
    "the answer of a unary call is its only callback, with the message in buffer 5",
    *do(UNARY),
    "grpc_receive buffer 5 0 9",
    "tick buffer 5 0 9",
)
def _(stage: Stage, caller: Caller) -> None:
    lines = caller.told(lambda pending: pending.answer(b"yes"))
    stage.expect(lines, [f"grpc_receive 1 {caller.performer.calls[0].id} 3", "buffer: OK yes"])
    caller.root.tick()
    stage.expect(caller.guest.take()[1:], ["buffer: NOT_FOUND"])


@row(
    "proxy_on_grpc_close",
    "the failure of a unary call: its status, and the message by proxy_get_status",
    *do(UNARY),
    "grpc_close status",
)
def _(stage: Stage, caller: Caller) -> None:
    lines = caller.told(lambda pending: pending.close(14, b"unreachable"))
    stage.expect(lines, [f"grpc_close 1 {caller.performer.calls[0].id} 14", "status: OK 14 unreachable"])


@row(STREAM, "a stream has no message and no timeout", *do(BOTH_WAYS))
def _(stage: Stage, caller: Caller) -> None:
    request = GrpcRequest(b"auth", b"pkg.Svc", b"Chat", ((b"a", b"1"),), None, 0)
    stage.expect((caller.performer.requests, caller.answers[0][:3]), ([request], "OK "))


@row(
    STREAM,
    "initial metadata, messages, trailing metadata and the end, in this order",
    *do(BOTH_WAYS),
    *(("grpc_initial_metadata pairs 4", "grpc_receive buffer 5 0 9", "grpc_trailing_metadata pairs 5", "grpc_close status")),
)
def _(stage: Stage, caller: Caller) -> None:
    call = caller.performer.calls[0]
    call.initial_metadata(((b"i", b"1"),))
    for message in (b"one", b"", b"three"):
        call.message(message)
    call.trailing_metadata(((b"t", b"2"),))
    call.close(0, b"")
    stage.expect(
        caller.guest.take(),
        [
            f"grpc_initial_metadata 1 {call.id} 1",
            "pairs: OK i=1",
            f"grpc_receive 1 {call.id} 3",
            "buffer: OK one",
            f"grpc_receive 1 {call.id} 0",
            "buffer: OK",
            f"grpc_receive 1 {call.id} 5",
            "buffer: OK three",
            f"grpc_trailing_metadata 1 {call.id} 1",
            "pairs: OK t=2",
            f"grpc_close 1 {call.id} 0",
            "status: OK 0",
        ],
    )


for subject, name, map_type in (
    ("proxy_on_grpc_receive_initial_metadata", "grpc_initial_metadata", 4),
    ("proxy_on_grpc_receive_trailing_metadata", "grpc_trailing_metadata", 5),
):

    @row(
        subject,
        f"its fields are in map {map_type} while it runs, and only there",
        *do(BOTH_WAYS),
        f"{name} get {map_type} k",
        f"{name} add {map_type} a b",
        f"tick get {map_type} k",
    )
    def _(stage: Stage, caller: Caller, name: str = name) -> None:
        call = caller.performer.calls[0]
        (call.initial_metadata if "initial" in name else call.trailing_metadata)(((b"k", b"v"),))
        caller.root.tick()
        stage.expect(
            [line for line in caller.guest.take() if ": " in line], ["get: OK v", "add: BAD_ARGUMENT", "get: NOT_FOUND"]
        )


@row(SEND, "messages of a stream, the last with the end", *do(BOTH_WAYS, "grpc_send @ one 0", "grpc_send @ two 1"))
def _(stage: Stage, caller: Caller) -> None:
    stage.expect((caller.answers[1:], caller.performer.done), (["OK", "OK"], ["send one 0", "send two 1"]))


@row(
    SEND,
    "of a unary call BadArgument; of an unknown stream NotFound",
    *do(UNARY, "grpc_send @ one 0", BOTH_WAYS, "grpc_send 4002 one 0"),
)
def _(stage: Stage, caller: Caller) -> None:
    stage.expect((caller.answers[1], caller.answers[3]), ("BAD_ARGUMENT", "NOT_FOUND"))


@row(
    CANCEL,
    "ends a call and a stream; nothing is told of them any more",
    *do(UNARY, "grpc_cancel @", BOTH_WAYS, "grpc_cancel @"),
)
def _(stage: Stage, caller: Caller) -> None:
    stage.expect((caller.answers[1], caller.answers[3], caller.performer.done), ("OK", "OK", ["cancel", "cancel"]))
    stage.expect(caller.told(lambda pending: pending.answer(b"late")), [])


@row(
    CLOSE,
    "of a stream: no more messages; of a unary call: it is cancelled",
    *do(BOTH_WAYS, "grpc_close @", UNARY, "grpc_close @"),
)
def _(stage: Stage, caller: Caller) -> None:
    stage.expect((caller.answers[1], caller.answers[3], caller.performer.done), ("OK", "OK", ["close", "cancel"]))


for subject, command in ((CANCEL, "grpc_cancel"), (CLOSE, "grpc_close")):

    @row(subject, "of an unknown id NotFound, of an HTTP call BadArgument", *do(f"{command} 4002", ASK, f"{command} @"))
    def _(stage: Stage, caller: Caller) -> None:
        stage.expect((caller.answers[0], caller.answers[2]), ("NOT_FOUND", "BAD_ARGUMENT"))


for subject, command in ((CALL, ASK), (GRPC, UNARY), (STREAM, BOTH_WAYS)):
    TABLE.asks(subject, "without anybody who performs calls: Unimplemented", f"request_headers {command}", "UNIMPLEMENTED")
