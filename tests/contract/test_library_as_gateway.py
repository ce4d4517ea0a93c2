"""The library takes a request through a plugin as the gateway's chain does: the same callbacks in the same order with the same
results, and the same messages on both sides."""

from __future__ import annotations

from ast import literal_eval

import pytest

from shared.proxy_wasm import Limits, LogLevel, Plugin, Response, Stream
from shared.proxy_wasm.testing.plugin import shared_engine
from tests.support.chain import SILENT, Case, Worker
from tests.support.guest import console

REQUEST = (b"one", b"two", b"three")
RESPONSE = (b"four", b"five")
TICKS = 3
HEAD = b"POST /p HTTP/1.1\r\nhost: h\r\na: 1\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nserver: up\r\n"

SCRIPTS = {
    "nothing": (),
    "headers": ("request_headers replace 0 a 2", "request_headers remove 0 b", "response_headers add 2 c 3"),
    "pseudo": (
        "request_headers replace 0 :path /q",
        "request_headers replace 0 :authority o",
        "response_headers replace 2 :status 418",
    ),
    "reply": ("request_headers reply 403 why no x=y", "log get 2 :status"),
    "reply with a type": ("request_headers reply 200 why {} content-type=application/json",),
    "reply without a body": ("request_headers reply 204 why",),
    "reply in the body": ("request_body reply 413 big too-big",),
    "reply to the response": ("response_headers reply 502 why bad", "log get 2 :status"),
    "reply too late": ("response_body reply 500 late x", "log get 2 :status"),
    "held body": ("request_body return 1", "request_body#3 return 0"),
    "held body of the response": ("response_body return 1", "response_body#2 return 0", "response_body#2 set_buffer 1 0 9 x"),
    "dropped": ("request_body return 3", "response_body return 3"),
    "changed": ("request_body set_buffer 0 0 0 <", "response_body set_buffer 1 0 999 whole"),
    "paused": ("request_headers return 1", "request_headers continue 0"),
    "paused and resumed later": (
        "request_headers return 1",
        "tick#1 effective 2",
        "tick#1 replace 0 late 1",
        "tick#1 continue 0",
    ),
    "paused response": ("response_headers return 1", "tick#1 effective 2", "tick#1 continue 1"),
    "paused body": ("request_body return 1", "tick#1 effective 2", "tick#1 continue 0"),
    "reply to a paused request": ("request_headers return 1", "tick#1 effective 2", "tick#1 reply 401 why who"),
    "closed": ("request_headers close 0",),
    "closed in the response": ("response_headers close 1",),
    "closed while paused": ("request_headers return 1", "tick#1 effective 2", "tick#1 close 0"),
    "incomplete": ("request_headers remove 0 :method",),
    "incomplete response": ("response_headers remove 2 :status",),
    "trap": ("request_headers trap",),
    "trap in the response": ("response_headers trap",),
    "trap in the body": ("request_body#2 trap",),
    "too large": ("request_body return 1",),
}


def said(messages: list[str]) -> list[str]:
    return [message for message in messages if message.partition(" ")[0] not in (*SILENT, "tick", "effective:")]


class Gone:
    """What went on in one direction, of the lines of the chain's journal (`> HEAD`, `> 'BODY'`, with ` eos` at the end)."""

    def __init__(self, lines: list[str], mark: str) -> None:
        shown = [line[2:].removesuffix(" eos") for line in lines if line.startswith(mark)]
        heads = [line.split("|") for line in shown if line[0] != "'"]
        # A reply in its place comes last.
        self.head = heads[-1] if heads else []
        self.body = "".join(literal_eval(line) for line in shown if line[0] == "'")


def through_the_chain(script: str, limits: Limits) -> tuple[list[str], Gone, Gone]:
    """What the plugin said, and what went to the upstream and to the client."""
    worker = Worker(shared_engine())
    case: Case = worker.open(worker.bind("p", *script.split("\n"), limits=limits))
    case.chain.request_head(HEAD, CHUNKED, False)
    for k, piece in enumerate(REQUEST):
        case.chain.request_body(piece, k == len(REQUEST) - 1)
    lines, answered = worker.take(), False
    for _ in range(TICKS):
        if not answered and not case.replies and any(line.startswith("> ") and line.endswith(" eos") for line in lines):
            answered = True
            case.chain.response_head(ANSWER, CHUNKED, False)
            for k, piece in enumerate(RESPONSE):
                case.chain.response_body(piece, k == len(RESPONSE) - 1)
            lines += worker.take()
        worker.loop.advance(1)
        lines += worker.take()
    lines += case.finish()
    return said([line[2:] for line in lines if line.startswith("p ")]), Gone(lines, "> "), Gone(lines, "< ")


def through_the_library(script: str, limits: Limits) -> tuple[list[str], Stream]:
    plugin = Plugin.load(console(), name="p", configuration=script, limits=limits, log_level=LogLevel.INFO)
    plugin.logs.clear()
    answer = Response(200, {"server": "up"}, chunks=RESPONSE)
    stream = plugin.request("POST", "/p", authority="h", headers={"a": "1"}, chunks=REQUEST, response=answer)
    for _ in range(TICKS):
        if plugin.failure is None:
            plugin.tick()
    plugin.abandon(stream)
    return said([message for message in plugin.messages if not message.endswith(": OK")]), stream


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_same_happens(name: str) -> None:
    script = "\n".join(("configure tick_period 1000", *SCRIPTS[name]))
    limits = Limits(body_buffer_bytes=8 if name == "too large" else 1 << 20)
    told, sent, received = through_the_chain(script, limits)
    also_told, stream = through_the_library(script, limits)
    assert also_told == told
    assert (stream.forwarded.body.decode() if stream.was_forwarded else "") == sent.body
    if stream.was_forwarded:
        request = stream.forwarded
        fields = [f"{field}: {value}" for field, value in request.headers]
        assert [f"{request.method} {request.path} HTTP/1.1", f"host: {request.authority}", *fields] == sent.head
    if received.head and not stream.closed and stream.failure is None:
        assert (stream.response.status, stream.response.text) == (int(received.head[0][9:12]), received.body)
        assert [f"{field}: {value}" for field, value in stream.response.headers] == received.head[1:]
