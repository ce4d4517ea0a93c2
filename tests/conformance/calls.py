"""HTTP calls, as a plugin makes them and hears of them. Somebody else performs them here: a list."""

from __future__ import annotations

from collections.abc import Callable

from shared.proxy_wasm.abi import Effect, Status
from shared.proxy_wasm.callouts import CallHandle, GrpcHandle, GrpcRequest, HttpRequest, PendingCall
from shared.proxy_wasm.vm import HttpContext, PluginContext
from tests.conformance.stage import DEFINES, Stage
from tests.conformance.table import TABLE
from tests.support.guest import Guest, console, limits, open_stream

case = TABLE.case
CALL, RESPONSE = "proxy_http_call", "proxy_on_http_call_response"

HEAD = b"GET /p HTTP/1.1\r\nhost: h\r\n"
ASK = "http_call auth 500 body % :method=GET :path=/a :authority=b"
OK = ((b":status", b"200"), (b"x", b"1"), (b"x", b"2"))


class Performer:
    """Keeps what it is asked, and what became of it."""

    holds_requests = False

    def __init__(self) -> None:
        self.status = Status.OK
        self.requests: list[HttpRequest | GrpcRequest] = []
        self.calls: list[PendingCall] = []
        self.done: list[str] = []

    def http(self, call: PendingCall, request: HttpRequest) -> tuple[Status, CallHandle | None]:
        return self.take(call, request)

    def grpc(self, call: PendingCall, request: GrpcRequest) -> tuple[Status, GrpcHandle | None]:
        return self.take(call, request)

    def take(self, call: PendingCall, request: HttpRequest | GrpcRequest) -> tuple[Status, Handle | None]:
        if self.status is not Status.OK:
            return self.status, None
        self.requests.append(request)
        self.calls.append(call)
        return Status.OK, Handle(self.done)


class Handle:
    def __init__(self, done: list[str]) -> None:
        self.done = done

    def cancel(self) -> None:
        self.done.append("cancel")

    def abandon(self) -> None:
        self.done.append("abandon")

    def send(self, message: bytes, eos: bool) -> Status:
        self.done.append(f"send {message.decode()} {int(eos)}")
        return Status.OK

    def close(self) -> None:
        self.done.append("close")


class Caller:
    """A plugin whose stream has made its calls in its headers, and waits."""

    def __init__(self, stage: Stage, *script: str) -> None:
        self.performer = Performer()
        self.guest = Guest(stage.engine, console(*DEFINES[stage.version]), limits(pending_callouts=10), self.performer)
        self.root: PluginContext = self.guest.root(*script, "request_headers return 1")
        self.stream: HttpContext = open_stream(self.root)
        self.stream.request_headers(HEAD, True)
        self.said = self.guest.take()

    @property
    def answers(self) -> list[str]:
        return [line.partition(": ")[2] for line in self.said if ": " in line]

    def told(self, tell: Callable[[PendingCall], None], number: int = 0) -> list[str]:
        tell(self.performer.calls[number])
        return self.guest.take()


def row(subject: str, behaviour: str, *script: str) -> Callable[[Callable[[Stage, Caller], None]], None]:
    def add(look: Callable[[Stage, Caller], None]) -> None:
        @case(subject, behaviour)
        def _(stage: Stage) -> None:
            caller = Caller(stage, *script)
            try:
                look(stage, caller)
            finally:
                caller.guest.vm.close()

    return add


def do(*commands: str) -> tuple[str, ...]:
    return tuple(f"request_headers {command}" for command in commands)


# --- HTTP


@row(
    CALL,
    "the upstream, all fields in order, body, trailers and timeout are what is asked; the id is not given twice",
    *do("http_call auth 500 bo%00dy t=u :method=POST :path=/a a=1 a=2", ASK),
)
def _(stage: Stage, caller: Caller) -> None:
    fields = ((b":method", b"POST"), (b":path", b"/a"), (b"a", b"1"), (b"a", b"2"))
    stage.expect(caller.performer.requests[0], HttpRequest(b"auth", fields, b"bo\0dy", ((b"t", b"u"),), 500))
    first, second = caller.answers
    stage.expect((first[:3], second[:3], first != second), ("OK ", "OK ", True))


@case(CALL, "a refusal is the answer, and there is no call")
def _(stage: Stage) -> None:
    performer = Performer()
    performer.status = Status.BAD_ARGUMENT
    guest = Guest(stage.engine, console(*DEFINES[stage.version]), limits(pending_callouts=10), performer)
    open_stream(guest.root(*do(ASK))).request_headers(HEAD, True)
    stage.expect((guest.take()[-1], performer.calls), ("http_call: BAD_ARGUMENT", []))
    guest.vm.close()


@case(CALL, "more than the plugin may have under way are InternalFailure")
def _(stage: Stage) -> None:
    performer = Performer()
    guest = Guest(stage.engine, console(*DEFINES[stage.version]), limits(pending_callouts=1), performer)
    open_stream(guest.root(*do(ASK, ASK))).request_headers(HEAD, True)
    stage.expect([line[:13] for line in guest.take()[-2:]], ["http_call: OK", "http_call: IN"])
    guest.vm.close()


READS = ("get 6 x", "get 6 X", "pairs 6", "pairs 7", "size 6", "buffer 4 0 100", "buffer 4 1 2", "buffer_status 4", "status")


@row(
    RESPONSE,
    "the plugin context, the call, and the numbers of fields, bytes and trailers; all of them can be read",
    *do(ASK),
    *(f"http_call_response {read}" for read in READS),
)
def _(stage: Stage, caller: Caller) -> None:
    call = caller.performer.calls[0].id
    lines = caller.told(lambda pending: pending.respond(OK, b"abcd", ((b"t", b"u"),)))
    listed = ":status=200|x=1|x=2"
    size = 4 + sum(8 + len(field) - 1 + 2 for field in listed.split("|"))
    stage.expect(
        lines,
        [
            f"http_call_response 1 {call} 3 4 1",
            "get: OK 1",
            "get: OK 1",
            f"pairs: OK {listed}",
            "pairs: OK t=u",
            f"size: OK {size}",
            "buffer: OK abcd",
            "buffer: OK bc",
            "buffer_status: OK 4 0",
            "status: OK 0",
        ],
    )


@row(
    RESPONSE,
    "its maps and its buffer are read-only, and gone afterwards",
    *do(ASK),
    *(f"http_call_response {write}" for write in ("add 6 a b", "set_buffer 4 0 0 z")),
    *(f"tick {read}" for read in ("get 6 x", "buffer 4 0 9")),
)
def _(stage: Stage, caller: Caller) -> None:
    lines = caller.told(lambda pending: pending.respond(OK, b"abcd", ()))[1:]
    caller.root.tick()
    lines += caller.guest.take()[1:]
    stage.expect(lines, ["add: BAD_ARGUMENT", "set_buffer: BAD_ARGUMENT", "get: NOT_FOUND", "buffer: NOT_FOUND"])


@row(
    RESPONSE,
    "a failure has no fields, no bytes and no trailers; proxy_get_status says why",
    *do(ASK),
    *(f"http_call_response {read}" for read in ("buffer 4 0 9", "status")),
)
def _(stage: Stage, caller: Caller) -> None:
    call = caller.performer.calls[0].id
    lines = caller.told(lambda pending: pending.fail(b"reset"))
    stage.expect(lines, [f"http_call_response 1 {call} 0 0 0", "buffer: NOT_FOUND", "status: OK 11 reset"])


@row(RESPONSE, "calls that ended in another order are told in that order, each once", *do(ASK, ASK, ASK))
def _(stage: Stage, caller: Caller) -> None:
    ids = [call.id for call in caller.performer.calls]
    for number in (2, 0, 1, 0):
        caller.performer.calls[number].respond(OK, b"", ())
    stage.expect([int(line.split()[2]) for line in caller.guest.take()], [ids[2], ids[0], ids[1]])


@row(RESPONSE, "it may make the next call", *do(ASK), f"http_call_response#1 {ASK}")
def _(stage: Stage, caller: Caller) -> None:
    caller.told(lambda pending: pending.respond(OK, b"", ()))
    stage.expect(caller.told(lambda pending: pending.fail(b"x"), 1)[0].split()[2], str(caller.performer.calls[1].id))


RESUMES = ("effective 2", "add 0 x-user me", "continue 0", "add 0 late no")


@row(
    RESPONSE,
    "resumes the stream that waits, with what it wrote into its headers",
    *do(ASK),
    *(f"http_call_response {command}" for command in RESUMES[:3]),
)
def _(stage: Stage, caller: Caller) -> None:
    caller.told(lambda pending: pending.respond(OK, b"", ()))
    ((context, outcome),) = caller.guest.recorder.told
    stage.expect((context, bool(outcome.effects & Effect.CONTINUE_REQUEST)), (2, True))
    head = caller.stream.resume_head(0)  # type: ignore[arg-type]
    data = head if isinstance(head, bytes) else head.data if head is not None else b""
    stage.expect(b"x-user: me\r\n" in (data or b""), True)


@row(
    RESPONSE,
    "answers for the stream that waits",
    *do(ASK),
    "http_call_response effective 2",
    "http_call_response reply 403 % no %",
)
def _(stage: Stage, caller: Caller) -> None:
    caller.told(lambda pending: pending.respond(OK, b"", ()))
    ((context, outcome),) = caller.guest.recorder.told
    assert outcome.reply is not None
    stage.expect((context, outcome.reply.status, outcome.reply.body), (2, 403, b"no"))


@row(RESPONSE, "comes when the stream is over too: calls are the plugin context's", *do(ASK), "http_call_response effective 2")
def _(stage: Stage, caller: Caller) -> None:
    caller.stream.finish()
    caller.guest.take()
    lines = caller.told(lambda pending: pending.respond(OK, b"", ()))
    stage.expect((lines[0].split()[0], lines[1]), ("http_call_response", "effective: BAD_ARGUMENT"))


@row(RESPONSE, "not when the plugin context is gone: its calls are cancelled", *do(ASK))
def _(stage: Stage, caller: Caller) -> None:
    caller.stream.finish()
    caller.root.delete()
    caller.guest.take()
    stage.expect(caller.performer.done, ["cancel"])
    stage.expect(caller.told(lambda pending: pending.respond(OK, b"", ())), [])


@row(RESPONSE, "of a call that a timer made", f"tick {ASK}")
def _(stage: Stage, caller: Caller) -> None:
    caller.root.tick()
    caller.guest.take()
    stage.expect(caller.told(lambda pending: pending.respond(OK, b"", ()))[0].split()[0], "http_call_response")
