"""Body buffers: reading slices, changing them, and holding pieces until the plugin lets go."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext
from tests.support.guest import Guest, console, limits, open_stream

GET = b"POST / HTTP/1.1\r\nhost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
BIG, ALL = 0x7FFFFFFF, 0xFFFFFFFF

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE


def opened(guest: Guest, *script: str) -> HttpContext:
    stream = guest.stream(*script)
    stream.request_headers(GET, eos=False)
    stream.response_headers(OK, eos=False)
    guest.take()
    return stream


def passed(outcome: Outcome | None, piece: bytes) -> bytes:
    """What goes on in place of the piece."""
    if outcome is None:
        return piece
    assert not outcome.paused
    return piece if outcome.data is None else outcome.data


@pytest.mark.parametrize(
    ("start", "size", "slice_"),
    [
        *((0, 2, "he"), (1, 1, "e"), (1, 9, "elloworld"), (1, 10, "elloworld"), (8, 2, "ld"), (9, 1, "d"), (10, 2, "")),
        *((11, 1, ""), (0, 0, ""), (0, ALL, "helloworld"), (1, ALL, "elloworld"), (0, BIG, "helloworld"), (3, BIG, "loworld")),
        *((BIG, 1, ""), (ALL, ALL, ""), (ALL, 1, "")),
    ],
)
@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
def test_slices(guest: Guest, direction: Direction, start: int, size: int, slice_: str) -> None:
    name = "response" if direction else "request"
    stream = opened(guest, f"{name}_body buffer {direction:d} {start} {size}", f"{name}_body buffer_status {direction:d}")
    assert passed(stream.body(direction, b"helloworld", eos=True), b"helloworld") == b"helloworld"
    assert guest.take()[1:] == [f"buffer: OK {slice_}".rstrip(), "buffer_status: OK 10 0"]


@pytest.mark.parametrize(
    ("start", "size", "data", "result"),
    [
        (0, 0, "X", "Xhello"),
        (5, 0, "X", "helloX"),
        (BIG, 0, "X", "helloX"),
        (ALL, 0, "X", "helloX"),
        (ALL, ALL, "X", "helloX"),
        (99, 3, "X", "helloX"),
        (0, BIG, "X", "X"),
        (0, ALL, "X", "X"),
        (0, ALL, "%", ""),
        (0, 2, "X", "Xllo"),
        (1, 2, "XYZ", "hXYZlo"),
        (1, 2, "%", "hlo"),
        (2, 0, "XY", "heXYllo"),
        (3, ALL, "X", "helX"),
        (3, BIG, "%", "hel"),
        (4, 1, "X", "hellX"),
    ],
)
def test_changing_a_body(guest: Guest, start: int, size: int, data: str, result: str) -> None:
    stream = opened(guest, f"request_body set_buffer 0 {start} {size} {data}", "request_body buffer 0 0 99")
    assert passed(stream.body(REQUEST, b"hello", eos=True), b"hello") == result.encode()
    assert guest.take()[1:] == ["set_buffer: OK", f"buffer: OK {result}".rstrip()]


def test_an_empty_last_piece_can_be_filled(guest: Guest) -> None:
    stream = opened(guest, "response_body buffer 1 0 9", "response_body set_buffer 1 0 0 end")
    assert passed(stream.body(RESPONSE, b"", eos=True), b"") == b"end"
    assert guest.take() == ["response_body 2 0 1", "buffer: OK", "set_buffer: OK"]


def test_a_piece_that_nobody_changed_goes_on_as_it_is(engine: Engine) -> None:
    """Without a log in between the answer is not even an outcome."""
    guest = Guest(engine, console())
    stream = opened(guest)
    outcome = stream.body(REQUEST, b"abc", eos=False)
    assert outcome is not None
    assert (outcome.paused, outcome.data, outcome.effects) == (False, None, 0)
    guest.vm.close()


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
def test_held_pieces_come_again_with_the_next(guest: Guest, direction: Direction) -> None:
    name = "response_body" if direction else "request_body"
    stream = opened(guest, f"{name}#1 return 1", f"{name}#2 buffer {direction:d} 0 99", f"{name}#4 return 1")
    first = stream.body(direction, b"four", eos=False)
    assert first is not None
    assert (first.paused, first.data) == (True, None)
    assert passed(stream.body(direction, b"-five", eos=False), b"") == b"four-five"
    assert passed(stream.body(direction, b"six", eos=False), b"six") == b"six"
    last = stream.body(direction, b"end", eos=True)
    assert last is not None
    assert last.paused
    assert stream.take_body(direction) == b"end"
    assert guest.take() == [f"{name} 2 4 0", f"{name} 2 9 0", "buffer: OK four-five", f"{name} 2 3 0", f"{name} 2 3 1"]


def test_what_is_held_may_be_changed_by_another_callback(guest: Guest) -> None:
    root = guest.root(
        "request_body return 1", "tick effective 2", "tick buffer 0 0 99", "tick set_buffer 0 5 0 -two", "tick continue 0"
    )
    stream = open_stream(root)
    stream.request_headers(GET, eos=False)
    stream.body(REQUEST, b"piece", eos=True)
    guest.take()
    root.tick()
    assert guest.take() == ["tick 1", "effective: OK", "buffer: OK piece", "set_buffer: OK", "continue: OK"]
    assert [outcome.effects for _, outcome in guest.recorder.told] == [Effect.CONTINUE_REQUEST]
    assert stream.take_body(REQUEST) == b"piece-two"
    root.tick()
    assert guest.take()[2:4] == ["buffer: NOT_FOUND", "set_buffer: NOT_FOUND"]


def test_a_body_changed_in_the_other_direction_is_no_changed_head(guest: Guest) -> None:
    stream = guest.stream("request_body return 1", "response_headers set_buffer 0 0 1 J", "response_body set_buffer 0 0 1 B")
    stream.request_headers(GET, eos=False)
    stream.body(REQUEST, b"hello", eos=True)
    answer = stream.response_headers(OK, eos=False)
    assert isinstance(answer, Outcome)
    assert answer.data is None
    assert passed(stream.body(RESPONSE, b"unchanged", eos=True), b"unchanged") == b"unchanged"
    assert stream.take_body(REQUEST) == b"Bello"


@pytest.mark.parametrize(("action", "goes_on"), [(3, b""), (4, b""), (99, b"")])
def test_other_answers_drop_the_piece(guest: Guest, action: int, goes_on: bytes) -> None:
    stream = opened(guest, f"request_body#1 return {action}")
    assert passed(stream.body(REQUEST, b"dropped", eos=False), b"dropped") == goes_on
    assert passed(stream.body(REQUEST, b"kept", eos=True), b"kept") == b"kept"


def test_buffers_are_there_while_a_piece_is(guest: Guest) -> None:
    stream = guest.stream(
        *(f"{name} buffer {type_} 0 9" for name in ("request_headers", "response_headers", "log") for type_ in (0, 1)),
        *("request_headers buffer_status 0", "request_headers set_buffer 0 0 0 x", "request_body buffer 1 0 9"),
    )
    stream.request_headers(GET, eos=False)
    stream.body(REQUEST, b"abc", eos=True)
    stream.response_headers(OK, eos=True)
    stream.finish()
    answers = {line for line in guest.take() if ":" in line}
    assert answers == {"buffer: NOT_FOUND", "buffer_status: NOT_FOUND", "set_buffer: NOT_FOUND"}


@pytest.mark.parametrize(("type_", "changed"), [(2, "NOT_FOUND"), (3, "NOT_FOUND"), (4, "BAD_ARGUMENT"), (5, "BAD_ARGUMENT")])
def test_buffers_that_are_not_there(guest: Guest, type_: int, changed: str) -> None:
    stream = opened(guest, *(f"request_body {command} {type_} 0 1" for command in ("buffer", "buffer_status", "set_buffer")))
    stream.body(REQUEST, b"abc", eos=True)
    assert guest.take()[1:] == ["buffer: NOT_FOUND", "buffer_status: NOT_FOUND", f"set_buffer: {changed}"]


def test_buffers_that_do_not_exist_and_those_that_are_read_only(guest: Guest) -> None:
    stream = opened(
        guest,
        *(f"request_body buffer {type_} 0 1" for type_ in (8, 9, ALL)),
        *(f"request_body set_buffer {type_} 0 0 x" for type_ in (6, 7, 8, 9, ALL)),
        *(f"request_body buffer_status {type_}" for type_ in (8, 9)),
    )
    stream.body(REQUEST, b"abc", eos=True)
    assert guest.take()[1:] == [
        *("buffer: NOT_FOUND", "buffer: BAD_ARGUMENT", "buffer: BAD_ARGUMENT"),
        *["set_buffer: BAD_ARGUMENT"] * 5,
        *("buffer_status: NOT_FOUND", "buffer_status: BAD_ARGUMENT"),
    ]


def test_a_plugin_holds_no_more_than_its_limit(engine: Engine) -> None:
    guest = Guest(engine, console(), limits(body_buffer_bytes=10))
    stream = opened(guest, "request_body return 1", "request_body#2 set_buffer 0 0 0 x")
    first = stream.body(REQUEST, b"12345", eos=False)
    assert first is not None
    assert first.paused
    second = stream.body(REQUEST, b"67890", eos=False)
    assert second is not None
    assert second.paused
    assert guest.take()[-1] == "set_buffer: INTERNAL_FAILURE"
    third = stream.body(REQUEST, b"1", eos=True)
    assert third is not None
    assert third.no_room
    stream.finish()
    guest.vm.close()


def test_the_limit_is_for_what_is_held(engine: Engine) -> None:
    guest = Guest(engine, console(), limits(body_buffer_bytes=10))
    stream = opened(
        guest, "request_body#2 set_buffer 0 0 2 ab", "request_body#3 set_buffer 0 0 1 ab", "request_body#4 return 1"
    )
    for expected in (b"x" * 100, b"ab" + b"x" * 98, b"x" * 100):
        assert passed(stream.body(REQUEST, b"x" * 100, eos=False), b"x" * 100) == expected
    assert guest.take()[-1] == "set_buffer: INTERNAL_FAILURE"
    held = stream.body(REQUEST, b"x" * 11, eos=True)
    assert held is not None
    assert held.no_room
    guest.vm.close()


def test_large_pieces_pass_through_and_their_memory_is_used_again(engine: Engine) -> None:
    guest = Guest(engine, console(), limits(memory_bytes=8 << 20))
    for _ in range(20):
        stream = opened(guest, "request_body buffer 0 1048574 9")
        piece = b"x" * (1 << 20)
        assert passed(stream.body(REQUEST, piece, eos=True), piece) == piece
        assert guest.take()[-1] == "buffer: OK xx"
        stream.finish()
        stream.root.delete()
    guest.vm.close()
