"""TCP streams: the L4 callbacks, their buffers, pauses and effects."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.tcp import Peer, TcpContext
from tests.support.guest import Facts, Guest, console, limits

DOWN, UP = Direction.REQUEST, Direction.RESPONSE
ALL = 0xFFFFFFFF


def connection(guest: Guest, *script: str) -> TcpContext:
    return TcpContext(guest.root(*script), Facts())


def opened(guest: Guest, *script: str) -> TcpContext:
    stream = connection(guest, *script)
    assert stream.new_connection() is None or guest.recorder.logs
    guest.take()
    return stream


def passed(outcome: Outcome | None, piece: bytes) -> bytes:
    if outcome is None:
        return piece
    assert not outcome.paused
    return piece if outcome.data is None else outcome.data


def test_the_life_of_a_connection(guest: Guest) -> None:
    stream = connection(guest)
    stream.new_connection()
    assert passed(stream.data(DOWN, b"hello", False), b"hello") == b"hello"
    assert passed(stream.data(UP, b"welcome", False), b"welcome") == b"welcome"
    stream.data(UP, b"", True)
    stream.data(DOWN, b"", True)
    stream.closed(UP, Peer.REMOTE)
    stream.closed(DOWN, Peer.LOCAL)
    stream.finish()
    assert guest.take() == [
        "context_create 2 1",
        "new_connection 2",
        "downstream_data 2 5 0",
        "upstream_data 2 7 0",
        "upstream_data 2 0 1",
        "downstream_data 2 0 1",
        "upstream_connection_close 2 2",
        "downstream_connection_close 2 1",
        "done 2",
        "log 2",
        "delete 2",
    ]


@pytest.mark.parametrize(
    ("command", "piece"),
    [
        ("0 5 write", b"write world"),
        ("0 0 >", b">hello world"),
        (f"{ALL} 0 !", b"hello world!"),
        ("5 1 -", b"hello-world"),
        (f"5 {ALL} .", b"hello."),
        (f"0 {ALL}", b""),
    ],
)
@pytest.mark.parametrize(("direction", "callback", "buffer"), [(DOWN, "downstream_data", 2), (UP, "upstream_data", 3)])
def test_bytes_are_changed(guest: Guest, direction: Direction, callback: str, buffer: int, command: str, piece: bytes) -> None:
    stream = opened(guest, f"{callback} set_buffer {buffer} {command}")
    assert passed(stream.data(direction, b"hello world", False), b"hello world") == piece
    assert guest.take()[1:] == ["set_buffer: OK"]


def test_each_callback_has_its_own_buffer_only(guest: Guest) -> None:
    reads = [f"buffer {buffer} 0 99" for buffer in (0, 1, 2, 3)]
    stream = opened(guest, *(f"{when} {read}" for when in ("downstream_data", "upstream_data", "log") for read in reads))
    stream.data(DOWN, b"down", False)
    assert guest.take()[1:] == ["buffer: NOT_FOUND", "buffer: NOT_FOUND", "buffer: OK down", "buffer: NOT_FOUND"]
    stream.data(UP, b"up", False)
    assert guest.take()[1:] == ["buffer: NOT_FOUND", "buffer: NOT_FOUND", "buffer: NOT_FOUND", "buffer: OK up"]
    stream.finish()
    assert guest.take()[2:-1] == ["buffer: NOT_FOUND"] * 4


def test_a_request_has_no_tcp_buffers(guest: Guest) -> None:
    stream = guest.stream("request_body buffer 2 0 9", "request_body set_buffer 2 0 0 x", "request_body close 2")
    stream.request_headers(b"POST / HTTP/1.1\r\nhost: a\r\n", eos=False)
    guest.take()
    outcome = stream.body(DOWN, b"body", True)
    assert outcome is not None
    assert not outcome.effects & Effect.CLOSE
    assert guest.take()[1:] == ["buffer: NOT_FOUND", "set_buffer: NOT_FOUND", "close: OK"]


def test_paused_bytes_grow_until_they_go_on(guest: Guest) -> None:
    stream = opened(guest, "downstream_data return 1", "downstream_data#3 return 0")
    for size, piece in ((3, b"abc"), (7, b"defg")):
        outcome = stream.data(DOWN, piece, False)
        assert outcome is not None
        assert outcome.paused
        assert stream.held(DOWN) == size
    assert passed(stream.data(DOWN, b"h", True), b"h") == b"abcdefgh"
    assert guest.take() == ["downstream_data 2 3 0", "downstream_data 2 7 0", "downstream_data 2 8 1"]
    assert stream.held(DOWN) == 0


def test_paused_bytes_are_taken(guest: Guest) -> None:
    stream = opened(guest, "upstream_data return 1", "upstream_data set_buffer 3 0 1 J")
    stream.data(UP, b"hello", False)
    assert stream.take(UP) == b"Jello"
    assert stream.held(UP) == 0


def test_a_paused_plugin_may_hold_more_than_its_limit(engine: Engine) -> None:
    """Whoever drives it stops reading; a piece that is there already is not lost."""
    guest = Guest(engine, console(), limits(body_buffer_bytes=10))
    stream = opened(guest, "downstream_data return 1")
    stream.data(DOWN, b"x" * 64, False)
    assert stream.take(DOWN) == b"x" * 64


@pytest.mark.parametrize(
    ("command", "effect"),
    [
        ("continue 2", Effect.CONTINUE_REQUEST),
        ("continue 3", Effect.CONTINUE_RESPONSE),
        ("close 2", Effect.CLOSE),
        ("close 3", Effect.CLOSE),
        *((f"{verb} {kind}", 0) for verb in ("continue", "close") for kind in (0, 1)),
    ],
)
def test_effects(guest: Guest, command: str, effect: int) -> None:
    stream = connection(guest, f"new_connection {command}", "new_connection return 1")
    outcome = stream.new_connection()
    assert outcome is not None
    assert outcome.paused
    assert outcome.effects & (Effect.CONTINUE_REQUEST | Effect.CONTINUE_RESPONSE | Effect.CLOSE) == effect
    assert guest.take()[2:] == [f"{command.partition(' ')[0]}: OK"]


def test_a_close_is_paused_whatever_the_callback_answers(guest: Guest) -> None:
    stream = opened(guest, "downstream_data close 2")
    outcome = stream.data(DOWN, b"x", False)
    assert outcome is not None
    assert outcome.paused
    assert outcome.effects & Effect.CLOSE


def test_the_other_context_is_resumed_from_a_tick(guest: Guest) -> None:
    stream = connection(guest, "new_connection return 1", "tick effective 2", "tick continue 2")
    stream.new_connection()
    stream.root.tick()
    assert [(id, outcome.effects) for id, outcome in guest.recorder.told] == [(stream.id, Effect.CONTINUE_REQUEST)]


def test_there_is_nobody_to_take_a_local_reply_or_headers(guest: Guest) -> None:
    stream = opened(guest, "downstream_data reply 403 no body -1", "downstream_data get 0 :path", "downstream_data add 0 a b")
    outcome = stream.data(DOWN, b"x", False)
    assert outcome is not None
    assert not outcome.effects & Effect.LOCAL_REPLY
    assert guest.take()[1:] == ["reply: OK", "get: NOT_FOUND", "add: BAD_ARGUMENT"]


def test_what_is_asked_for_at_the_end_has_no_effect(guest: Guest) -> None:
    stream = opened(guest, *(f"{when} close 2" for when in ("downstream_connection_close", "done", "log", "delete")))
    stream.closed(DOWN, Peer.UNKNOWN)
    stream.finish()
    assert not guest.recorder.told


def test_a_trap_ends_the_vm(guest: Guest) -> None:
    stream = opened(guest, "upstream_data trap")
    with pytest.raises(VmFailed):
        stream.data(UP, b"x", False)
    with pytest.raises(VmFailed):
        stream.data(DOWN, b"x", False)
    stream.finish()
    assert "log 2" not in guest.take()


def test_a_plugin_without_data_callbacks_says_so(engine: Engine) -> None:
    guest = Guest(engine, console("NO_BODIES"))
    stream = connection(guest)
    assert not stream.reads(DOWN)
    assert not stream.reads(UP)
    assert TcpContext(Guest(engine, console()).root(), Facts()).reads(UP)


def test_what_bytes_took_is_given_back(engine: Engine) -> None:
    """10,000 idle sessions would otherwise hold a block each."""
    guest = Guest(engine, console(), limits(memory_bytes=16 << 20))
    root = guest.root()
    streams = [TcpContext(root, Facts()) for _ in range(300)]
    for stream in streams:
        stream.new_connection()
        for direction in (DOWN, UP):
            assert passed(stream.data(direction, b"x" * 200_000, False), b"") == b""
    assert guest.vm.failed is None
