"""Resuming, resetting and answering a stream, from its own callbacks and from others."""

from __future__ import annotations

from shared.proxy_wasm.abi import AbiVersion
from shared.proxy_wasm.limits import Limits
from tests.conformance.stage import REQUEST, RESPONSE, Stage, answers
from tests.conformance.table import FIRST, LATER, TABLE
from tests.support.chain import Case

asks, case = TABLE.asks, TABLE.case
CONTINUE, CLOSE, REPLY = "proxy_continue_stream", "proxy_close_stream", "proxy_send_local_response"


def sent(lines: list[str], mark: str = "<") -> list[str]:
    return [line for line in lines if line.startswith(f"{mark} ")]


# --- continue

asks(
    CONTINUE,
    "a stream that does not wait: Ok, and nothing changes",
    ("request_headers continue 0", "request_headers continue 1"),
    "OK",
    "OK",
)
asks(CONTINUE, "an unknown stream is BadArgument", "request_headers continue 4", "BAD_ARGUMENT")
asks(CONTINUE, "in a plugin context BadArgument", "configure continue 0", "BAD_ARGUMENT")


@case(CONTINUE, "in the callback that answers Pause: the stream goes on after it")
def _(stage: Stage) -> None:
    lines = stage.open("request_headers continue 0", "request_headers return 1").request()
    stage.expect(sent(lines, ">"), ["> GET /p HTTP/1.1|host: h"])


@case(CONTINUE, "twice forwards once")
def _(stage: Stage) -> None:
    script = (
        "request_headers return 1",
        "configure tick_period 1000",
        "tick effective 2",
        "tick continue 0",
        "tick continue 0",
    )
    case_ = stage.open(*script)
    case_.request(head=REQUEST)
    stage.worker.loop.advance(2)
    stage.expect(len(sent(stage.journal.take(), ">")), 1)


@case(CONTINUE, "after it the request's headers are closed for changes")
def _(stage: Stage) -> None:
    script = ("request_headers return 1", "configure tick_period 1000", "tick effective 2", "tick continue 0")
    case_ = stage.open(*script, "tick#2 add 0 late no")
    case_.request(head=REQUEST)
    stage.worker.loop.advance(1)
    stage.journal.take()
    stage.worker.loop.advance(1)
    stage.expect(answers(stage.journal.take())[-1], "BAD_ARGUMENT")


for number, name in ((0, "request"), (1, "response")):

    @case(f"proxy_continue_{name}", f"as continue_stream({number})", FIRST)
    def _(stage: Stage, name: str = name) -> None:
        case_ = stage.open(
            f"{name}_headers return 1", "configure tick_period 1000", "tick effective 2", f"tick continue_{name}"
        )
        held = case_.request(head=REQUEST) + (case_.response(head=RESPONSE) if name == "response" else [])
        mark = "<" if name == "response" else ">"
        stage.expect(sent(held, mark), [])
        stage.worker.loop.advance(1)
        stage.expect(len(sent(stage.journal.take(), mark)), 1)

    @case(CONTINUE, f"a body that is held goes on: {name}")
    def _(stage: Stage, name: str = name, number: int = number) -> None:
        script = (f"{name}_body return 1", "configure tick_period 1000", "tick effective 2", f"tick continue {number}")
        case_ = stage.open(*script)
        held = case_.request(b"hello", head=REQUEST) + (case_.response(b"hello", head=RESPONSE) if number else [])
        mark = "<" if number else ">"
        stage.expect([line for line in held if line.startswith(f"{mark} 'h")], [])
        stage.worker.loop.advance(1)
        stage.expect(sent(stage.journal.take(), mark), [f"{mark} 'hello' eos"])


# --- close

asks(CLOSE, "an unknown stream is BadArgument", "request_headers close 4", "BAD_ARGUMENT")
asks(CLOSE, "in a plugin context BadArgument", "configure close 0", "BAD_ARGUMENT")
for number, name in ((0, "request"), (1, "response")):

    @case(CLOSE, f"resets the stream, from the {name}'s headers")
    def _(stage: Stage, name: str = name, number: int = number) -> None:
        case_ = stage.open(f"{name}_headers close {number}")
        lines = case_.request(head=REQUEST) + case_.response(head=RESPONSE)
        stage.expect("abort a plugin closed the stream" in lines, True)
        stage.expect(sent(lines), [])


# --- local replies


def replied(case_: Case) -> list[str]:
    """Status line and fields of what the client gets, and the body."""
    lines = sent(case_.journal.take())
    return [*lines[0][2:].split("|"), *lines[1:]]


@case(REPLY, "from request headers: status, fields and body reach the client, nothing reaches the upstream")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers reply 403 denied no % x=y")
    case_.chain.request_head(REQUEST, b"", False)
    case_.chain.request_body(b"late", True)
    stage.expect(sent(case_.journal.lines, ">"), [])
    stage.expect(replied(case_), ["HTTP/1.1 403 Reply", "content-type: text/plain", "x: y", "< 'no' eos"])


@case(REPLY, "the callback's answer means nothing: Continue is as Pause")
def _(stage: Stage) -> None:
    for answer in (0, 1):
        other = Stage(stage.engine, stage.version)
        lines = other.open("request_headers reply 403 % % %", f"request_headers return {answer}").request()
        stage.expect((sent(lines, ">"), sent(lines)), ([], ["< HTTP/1.1 403 Reply"]))


@case(REPLY, "a field twice is two fields; a content-type of the plugin's own is kept")
def _(stage: Stage) -> None:
    case_ = stage.open("request_headers reply 401 % hi % hello=spacewander hello=world content-type=a/b")
    case_.chain.request_head(REQUEST, b"", True)
    stage.expect(
        replied(case_), ["HTTP/1.1 401 Reply", "hello: spacewander", "hello: world", "content-type: a/b", "< 'hi' eos"]
    )


@case(REPLY, "the first counts; a second is Ok and ignored")
def _(stage: Stage) -> None:
    lines = stage.open("request_headers reply 401 % % %", "request_headers reply 403 % % %").request()
    stage.expect((answers(lines), sent(lines)), (["OK", "OK"], ["< HTTP/1.1 401 Reply"]))


for status in (204, 304):

    @case(REPLY, f"status {status} has no body")
    def _(stage: Stage, status: int = status) -> None:
        stage.expect(sent(stage.open(f"request_headers reply {status} % % %").request()), [f"< HTTP/1.1 {status} Reply"])


@case(REPLY, "from a request's body")
def _(stage: Stage) -> None:
    lines = stage.open("request_body#2 reply 413 % % %").request(b"1", b"2", head=REQUEST)
    stage.expect(sent(lines), ["< HTTP/1.1 413 Reply"])


@case(REPLY, "from response headers: in the place of the response")
def _(stage: Stage) -> None:
    case_ = stage.open("response_headers reply 502 % bad %")
    case_.request(head=REQUEST)
    stage.expect(
        sent(case_.response(b"never", head=RESPONSE)), ["< HTTP/1.1 502 Reply|content-type: text/plain", "< 'bad' eos"]
    )


@case(REPLY, "when the response has begun, or is over: Ok and ignored")
def _(stage: Stage) -> None:
    case_ = stage.open("response_body reply 500 % % %", "log reply 500 % % %")
    case_.request(head=REQUEST)
    lines = case_.response(b"hello", head=RESPONSE) + case_.finish()
    stage.expect((answers(lines), [line for line in lines if line.startswith("reply ")]), (["OK", "OK"], []))


@case(REPLY, "from a timer, on the effective context")
def _(stage: Stage) -> None:
    script = ("request_headers return 1", "configure tick_period 1000", "tick effective 2", "tick reply 503 % late %")
    case_ = stage.open(*script)
    case_.request(b"held", head=REQUEST)
    stage.worker.loop.advance(1)
    stage.expect(sent(stage.journal.take()), ["< HTTP/1.1 503 Reply|content-type: text/plain", "< 'late' eos"])


@case(REPLY, "in a plugin context without an effective one: Ok and ignored")
def _(stage: Stage) -> None:
    stage.expect(stage.answers("configure reply 500 % % %"), ["OK"])


@case(REPLY, "later plugins are not called; the way back is through the plugins that saw the request")
def _(stage: Stage) -> None:
    case_ = stage.chain(a="", b="request_headers reply 403 % % %", c="")
    lines = [line for line in case_.request(head=REQUEST) if "_headers " in line]
    stage.expect(
        [line.partition(" 2")[0] for line in lines],
        ["a request_headers", "b request_headers", "b response_headers", "a response_headers"],
    )


@case(REPLY, "a client of gRPC gets its status in the trailers-only form")
def _(stage: Stage) -> None:
    head = b"POST /s/m HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\n"
    case_ = stage.open("request_headers reply 403 % not%20you 7")
    case_.chain.request_head(head, b"", False)
    grpc = ["content-type: application/grpc", "grpc-status: 7", "grpc-message: not you"]
    stage.expect(replied(case_), ["HTTP/1.1 200 Reply", *grpc])


@case(REPLY, "another client does not see the gRPC status")
def _(stage: Stage) -> None:
    stage.expect(sent(stage.open("request_headers reply 403 % % 7").request()), ["< HTTP/1.1 403 Reply"])


@case(REPLY, "a status that is no final one, and a field that HTTP does not allow, are BadArgument")
def _(stage: Stage) -> None:
    refused = ("reply 0 % % %", "reply 199 % % %", "reply 600 % % %", "reply 403 % % % a=b%0d%0ac")
    stage.expect(answers(stage.open(*(f"request_headers {command}" for command in refused)).request()), ["BAD_ARGUMENT"] * 4)


@case(REPLY, "a body as long as the plugin's limit; one that is longer is InternalFailure")
def _(stage: Stage) -> None:
    limits = Limits(body_buffer_bytes=2000)
    for size, answer in ((2000, "OK"), (2001, "INTERNAL_FAILURE")):
        lines = Stage(stage.engine, stage.version).open(f"request_headers reply 200 % {'b' * size} %", limits=limits).request()
        stage.expect(answers(lines), [answer])


# --- routes

CLEAR = "proxy_clear_route_cache"
FOREIGN = "proxy_call_foreign_function"
asks(CLEAR, "Ok in any callback", ("configure clear_route_cache", "log clear_route_cache"), "OK", "OK", versions=FIRST)


def rerouted(subject: str, command: str, versions: tuple[AbiVersion, ...]) -> None:
    @case(subject, "the route is found anew, by what plugins have made of the request's head", versions)
    def _(stage: Stage) -> None:
        case_ = stage.chain(a=f"request_headers {command}", b="request_headers replace 0 :path /new")
        lines = [line for line in case_.request() if line.startswith(("> ", "route"))]
        stage.expect(lines, ["route of GET /new HTTP/1.1|host: h", "> GET /new HTTP/1.1|host: h"])

    @case(subject, "once the request has gone on, nothing", versions)
    def _(stage: Stage) -> None:
        case_ = stage.open(f"response_headers {command}")
        lines = case_.request() + case_.response()
        stage.expect([line for line in lines if line.startswith("route")], [])


rerouted(CLEAR, "clear_route_cache", FIRST)
rerouted(FOREIGN, "foreign clear_route_cache %", LATER)
