"""Trailers of both directions: read, changed, made, removed, and held."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.stage import REQUEST, RESPONSE, Stage, answers, without_answers
from tests.conformance.table import LATER, TABLE
from tests.support.chain import Case

case = TABLE.case
LINES = b"X-Sum: 1\r\nx-two: a\r\nx-two: b\r\n"

# Of each direction: its name, its trailers' map, the mark of what leaves.
SIDES = (("request", 1, ">"), ("response", 3, "<"))


def send(case_: Case, name: str, *pieces: bytes, trailers: bytes | None = LINES) -> list[str]:
    """A message with trailers, or without; of a response after its request."""
    chain = case_.chain
    if name == "response":
        case_.request(head=REQUEST)
        chain.response_head(RESPONSE, b"", False)
        body, ends = chain.response_body, chain.response_trailers
    else:
        chain.request_head(REQUEST, b"", False)
        body, ends = chain.request_body, chain.request_trailers
    for at, piece in enumerate(pieces):
        body(piece, trailers is None and at == len(pieces) - 1)
    if trailers is not None:
        ends(trailers)
    return case_.journal.take()


Look = Callable[[Stage, list[str]], None]


def row_of(name: str) -> Callable[..., Callable[[Look], None]]:
    """Cases about what a plugin with a script does to a message of two pieces and trailers."""

    def row(behaviour: str, *script: str) -> Callable[[Look], None]:
        def add(look: Look) -> None:
            @case(f"proxy_on_{name}_trailers", behaviour)
            def _(stage: Stage) -> None:
                look(stage, send(stage.open(*script), name, b"hello", b"world"))

        return add

    return row


def rows_of_the_map(name: str, map_type: int, mark: str) -> None:
    row = row_of(name)

    @row("comes after the last piece of the body with the number of fields; the body does not end the stream")
    def _(stage: Stage, lines: list[str]) -> None:
        told = [line for line in without_answers(lines) if line.startswith((f"{name}_body", f"{name}_trailers"))]
        stage.expect(told, [f"{name}_body 2 5 0", f"{name}_body 2 5 0", f"{name}_trailers 2 3"])
        stage.expect(lines[-1], f"{mark} trailers X-Sum: 1|x-two: a|x-two: b")

    @row(
        "its map is read in any case of the name, repeated values kept",
        *(f"{name}_trailers get {map_type} X-SUM", f"{name}_trailers get {map_type} x-two"),
        *(f"{name}_trailers pairs {map_type}", f"{name}_trailers get {map_type} absent%00"),
    )
    def _(stage: Stage, lines: list[str]) -> None:
        absent = "OK" if stage.short else "NOT_FOUND"
        stage.expect(answers(lines), ["OK 1", "OK a", "OK x-sum=1|x-two=a|x-two=b", absent])

    @row(
        "its map can be changed",
        *(f"{name}_trailers add {map_type} Added 1", f"{name}_trailers replace {map_type} x-two c"),
        f"{name}_trailers remove {map_type} x-sum",
    )
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect((answers(lines), lines[-1]), (["OK"] * 3, f"{mark} trailers x-two: c|added: 1"))

    @row("its map can be set as a whole, also to nothing", f"{name}_trailers set {map_type}")
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect((answers(lines), lines[-1]), (["OK"], f"{mark} trailers "))

    @row(
        "its map cannot be changed before and after, and has no pseudo-headers",
        *(f"{name}_headers add {map_type} a b", f"{name}_body add {map_type} a b"),
        *(f"{name}_trailers add {map_type} :status 200", f"log add {map_type} a b"),
    )
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect(answers(lines), ["BAD_ARGUMENT"] * 4)


def rows_of_the_order(name: str, map_type: int, mark: str) -> None:
    row = row_of(name)

    @row("Pause holds them; continue_stream lets them go as they are then", f"{name}_trailers return 1", *later(name, map_type))
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect(lines[-1], f"{name}_trailers 2 3")
        stage.worker.loop.advance(0.1)
        stage.expect(stage.journal.take()[-1], f"{mark} trailers x-sum: 1|x-two: a|x-two: b|late: yes")

    @row("a body that is held goes on before them", f"{name}_body return 1")
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect(lines[-2:], [f"{mark} 'helloworld'", f"{mark} trailers X-Sum: 1|x-two: a|x-two: b"])

    @row("behind a paused head they wait with the body", f"{name}_headers return 1", *later(name, map_type))
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect([line for line in lines if "trailers" in line], [])
        stage.worker.loop.advance(0.1)
        lines = stage.journal.take()
        stage.expect(lines[-2:], [f"{name}_trailers 2 3", f"{mark} trailers X-Sum: 1|x-two: a|x-two: b"])

    @row("they are readable in on_log", f"log pairs {map_type}")
    def _(stage: Stage, lines: list[str]) -> None:
        stage.expect(lines[-1], f"{mark} trailers X-Sum: 1|x-two: a|x-two: b")


def later(name: str, map_type: int) -> tuple[str, ...]:
    """A timer that changes the held trailers and lets the stream go on."""
    stream = 0 if name == "request" else 1
    return ("configure tick_period 100", "tick effective 2", f"tick add {map_type} late yes", f"tick continue {stream}")


def made(name: str, map_type: int, mark: str) -> None:
    for subject, word in (("proxy_add_header_map_value", "add"), ("proxy_replace_header_map_value", "replace")):

        @case(subject, f"{name} trailers can be made in the last piece of the body, for the next plugin too")
        def _(stage: Stage, word: str = word) -> None:
            makes = f"{name}_body#2 {word} {map_type} sum 2"
            plugins = {"a": makes, "b": ""} if name == "request" else {"b": "", "a": makes}
            lines = send(stage.chain(**plugins), name, b"hello", b"world", trailers=None)
            stage.expect(
                lines[-4:], [f"b {name}_body 2 5 0", f"{mark} 'world'", f"b {name}_trailers 2 1", f"{mark} trailers sum: 2"]
            )

        @case(subject, f"{name} trailers can be made while the whole body is held")
        def _(stage: Stage, word: str = word) -> None:
            script = (f"{name}_body#1 return 1", f"{name}_body#2 {word} {map_type} sum 2")
            lines = send(stage.open(*script), name, b"hello", b"world", trailers=None)
            stage.expect(lines[-2:], [f"{mark} 'helloworld'", f"{mark} trailers sum: 2"])


for side in SIDES:
    rows_of_the_map(*side)
    rows_of_the_order(*side)
    made(*side)


@case("proxy_on_request_trailers", "a local reply from it ends the request")
def _(stage: Stage) -> None:
    lines = send(stage.open("request_trailers reply 403 no % %"), "request", b"hello")
    stage.expect([line for line in lines if line.startswith(("reply 4", "> tr"))], ["reply 403 no"])


@case("proxy_on_request_trailers", "a trap in it is answered with 503 under fail_closed")
def _(stage: Stage) -> None:
    lines = send(stage.open("request_trailers trap"), "request", b"hello")
    stage.expect("reply 503 wasm_fail_stream" in lines, True)


@case("proxy_on_request_trailers", "after a trap in it they go on under fail_open", LATER)
def _(stage: Stage) -> None:
    lines = send(stage.open("request_trailers trap", policy="fail_open"), "request", b"hello")
    stage.expect(lines[-1], "> trailers X-Sum: 1|x-two: a|x-two: b")
