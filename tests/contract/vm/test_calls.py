"""What a plugin asks of other servers, and how it hears of it: ids, statuses, buffers, owners and ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.proxy_wasm.abi import Effect, Status
from shared.proxy_wasm.callouts import GrpcRequest, HttpRequest
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.failures import VmFailed
from shared.proxy_wasm.outcome import Outcome
from shared.proxy_wasm.vm import HttpContext, PluginContext
from tests.support.guest import Guest, console, limits, open_stream
from tests.support.performer import Performer

HEAD = b"GET /p HTTP/1.1\r\nhost: h\r\n"
ASK = "http_call auth 500 body % :method=GET :path=/a :authority=b"
OK = ((b":status", b"200"), (b"x", b"1"))


@pytest.fixture
def performer() -> Performer:
    return Performer()


@pytest.fixture
def guest(engine: Engine, performer: Performer) -> Iterator[Guest]:
    guest = Guest(engine, console(), limits(pending_callouts=3), performer)
    yield guest
    guest.vm.close()


def do(*commands: str) -> list[str]:
    return [f"request_headers {command}" for command in commands]


def paused(guest: Guest, *script: str) -> tuple[PluginContext, HttpContext]:
    """A stream that waits in its request's head, where it did what the script says."""
    root = guest.root(*script, "request_headers return 1")
    stream = open_stream(root)
    stream.request_headers(HEAD, True)
    return root, stream


def test_what_a_plugin_writes_arrives_whole(guest: Guest, performer: Performer) -> None:
    paused(guest, *do("http_call auth 500 bo%00dy t=u :method=POST :path=/a a=1 A=2"))
    assert guest.take()[-1] == "http_call: OK 4"
    fields = ((b":method", b"POST"), (b":path", b"/a"), (b"a", b"1"), (b"A", b"2"))
    assert performer.requests == [HttpRequest(b"auth", fields, b"bo\0dy", ((b"t", b"u"),), 500)]


def test_a_response_can_be_read_in_its_callback_and_not_after_it(guest: Guest, performer: Performer) -> None:
    reads = [
        "get 6 x",
        "pairs 6",
        "pairs 7",
        "size 6",
        "buffer 4 0 100",
        "buffer 4 1 2",
        "buffer_status 4",
        "set_buffer 4 0 0 z",
        "add 6 a b",
        "get 4 x",
        "buffer 5 0 9",
        "status",
    ]
    root, _ = paused(guest, *do(ASK), *(f"http_call_response {read}" for read in reads), *(f"tick {read}" for read in reads))
    guest.take()
    performer.calls[0].respond(OK, b"abcd", ((b"t", b"u"),))
    assert guest.take() == [
        f"http_call_response {root.id} 4 2 4 1",
        *("get: OK 1", "pairs: OK :status=200|x=1", "pairs: OK t=u", "size: OK 36", "buffer: OK abcd", "buffer: OK bc"),
        *("buffer_status: OK 4 0", "set_buffer: BAD_ARGUMENT", "add: BAD_ARGUMENT", "get: NOT_FOUND", "buffer: NOT_FOUND"),
        "status: OK 0",
    ]
    root.tick()
    assert guest.take()[1:] == [
        *("get: NOT_FOUND", "pairs: OK null", "pairs: OK null", "size: OK 0", "buffer: NOT_FOUND", "buffer: NOT_FOUND"),
        *("buffer_status: NOT_FOUND", "set_buffer: BAD_ARGUMENT", "add: BAD_ARGUMENT", "get: NOT_FOUND", "buffer: NOT_FOUND"),
        "status: OK 0",
    ]


def test_an_empty_response_is_there_and_empty(guest: Guest, performer: Performer) -> None:
    paused(guest, *do(ASK), "http_call_response buffer 4 0 100", "http_call_response pairs 7")
    guest.take()
    performer.calls[0].respond(((b":status", b"204"),), b"", ())
    assert guest.take()[1:] == ["buffer: OK", "pairs: OK "]


def test_a_failure_has_no_fields_and_a_status(guest: Guest, performer: Performer) -> None:
    paused(guest, *do(ASK), "http_call_response get 6 :status", "http_call_response buffer 4 0 9", "http_call_response status")
    guest.take()
    performer.calls[0].fail(b"reset")
    assert guest.take() == ["http_call_response 1 4 0 0 0", "get: NOT_FOUND", "buffer: NOT_FOUND", "status: OK 11 reset"]


def test_a_call_is_told_of_once(guest: Guest, performer: Performer) -> None:
    paused(guest, *do(ASK))
    guest.take()
    performer.calls[0].fail(b"reset")
    performer.calls[0].respond(OK, b"", ())
    assert guest.take() == ["http_call_response 1 4 0 0 0"]


def test_the_waiting_stream_goes_on_from_the_callback(guest: Guest, performer: Performer) -> None:
    _, stream = paused(
        guest, *do(ASK), "http_call_response effective 2", "http_call_response add 0 seen yes", "http_call_response continue 0"
    )
    performer.calls[0].respond(OK, b"", ())
    (told,) = guest.recorder.told
    assert (told[0], told[1].effects) == (stream.id, Effect.CONTINUE_REQUEST)
    head = stream.resume_head(0)  # type: ignore[arg-type]  # as the ABI numbers it
    assert head == b"GET /p HTTP/1.1\r\nhost: h\r\nseen: yes\r\n"


def test_parallel_and_chained_calls_have_ids_of_their_own_up_to_the_limit(guest: Guest, performer: Performer) -> None:
    paused(guest, *do(ASK, ASK, "grpc_call auth s m 0 hello", ASK), f"http_call_response {ASK}")
    assert guest.take()[-4:] == ["http_call: OK 4", "http_call: OK 8", "grpc_call: OK 13", "http_call: INTERNAL_FAILURE"]
    performer.calls[1].respond(OK, b"", ())
    assert guest.take() == ["http_call_response 1 8 2 0 0", "http_call: OK 16"]
    assert len(guest.vm.calls) == 3


def test_a_refused_call_leaves_no_trace(guest: Guest, performer: Performer) -> None:
    performer.status = Status.BAD_ARGUMENT
    paused(guest, *do(ASK))
    assert guest.take()[-1] == "http_call: BAD_ARGUMENT"
    assert len(guest.vm.calls) == 0
    performer.calls[0].respond(OK, b"", ())
    assert guest.take() == []


@pytest.mark.parametrize("timeout", ["4294967295", "2147483648"])
def test_a_negative_timeout_is_refused(guest: Guest, performer: Performer, timeout: str) -> None:
    paused(guest, *do(f"http_call auth {timeout} % % :path=/", f"grpc_call auth s m {timeout} x"))
    assert guest.take()[-2:] == ["http_call: BAD_ARGUMENT", "grpc_call: BAD_ARGUMENT"]
    assert performer.requests == []


def test_calls_from_every_callback_of_a_plugin_context(guest: Guest, performer: Performer) -> None:
    root = guest.vm.create_root("\n".join(f"{when} {ASK}" for when in ("vm_start", "configure", "tick")).encode())
    root.tick()
    assert [line for line in guest.take() if line.startswith("http_call:")] == [
        "http_call: OK 4",
        "http_call: OK 8",
        "http_call: OK 12",
    ]
    assert [(call.root, call.stream) for call in performer.calls] == [(root, None)] * 3


# --- ends


def test_the_calls_of_a_plugin_context_end_with_it(guest: Guest, performer: Performer) -> None:
    root = guest.root(f"tick {ASK}")
    other = guest.root(f"tick {ASK}")
    root.tick()
    other.tick()
    root.delete()
    guest.take()
    assert (performer.log, len(guest.vm.calls)) == (["cancel"], 1)
    performer.calls[0].respond(OK, b"", ())
    assert guest.take() == []


def test_a_plugin_context_that_asked_to_stay_still_hears(guest: Guest, performer: Performer) -> None:
    root = guest.root(f"tick {ASK}", "done return 0", "http_call_response proxy_done")
    root.tick()
    root.delete()
    guest.take()
    performer.calls[0].respond(OK, b"", ())
    assert guest.take() == [f"http_call_response {root.id} 4 2 0 0", "proxy_done: OK"]
    assert guest.recorder.ended == [root.id]


def test_the_calls_of_a_vm_end_with_it(guest: Guest, performer: Performer) -> None:
    paused(guest, *do(ASK, ASK), "http_call_response trap")
    with pytest.raises(VmFailed):
        performer.calls[0].respond(OK, b"", ())
    assert (performer.log, len(guest.vm.calls)) == (["cancel"], 0)
    performer.calls[1].fail(b"reset")
    assert guest.take()[-1] == "http_call_response 1 4 2 0 0"


def test_a_call_outlives_its_stream_whose_id_waits_for_it(guest: Guest, performer: Performer) -> None:
    root, stream = paused(guest, *do(ASK, ASK))
    stream.finish()
    guest.take()
    other = open_stream(root)
    assert (stream.id, other.id) == (2, 3)
    performer.calls[0].fail(b"reset")
    assert open_stream(root).id == 4
    performer.calls[1].fail(b"reset")
    assert open_stream(root).id == 2
    assert guest.take() == ["http_call_response 1 4 0 0 0", "http_call_response 1 8 0 0 0"]


def test_a_call_from_on_log_belongs_to_the_plugin_context(guest: Guest, performer: Performer) -> None:
    root = guest.root(f"log {ASK}")
    stream = open_stream(root)
    stream.request_headers(HEAD, True)
    stream.finish()
    assert open_stream(root).id == 3
    performer.calls[0].respond(OK, b"", ())
    assert guest.take()[-1] == "http_call_response 1 4 2 0 0"
    assert open_stream(root).id == 2


def test_ids_that_wait_go_back_to_the_vm_with_their_plugin_context(guest: Guest, performer: Performer) -> None:
    root, stream = paused(guest, *do(ASK))
    stream.finish()
    root.delete()
    assert [guest.root().id, guest.root().id, guest.root().id] == [1, 2, 3]


def test_abandoned_calls_are_those_of_the_stream(guest: Guest, performer: Performer) -> None:
    root, stream = paused(guest, *do(ASK), f"tick {ASK}")
    root.tick()
    guest.vm.calls.abandon(stream)
    assert (performer.log, len(guest.vm.calls)) == (["abandon"], 2)


def test_an_ended_call_is_freed_at_once(guest: Guest, performer: Performer) -> None:
    """Handles know their calls: a cycle would keep every call until the collector came by."""
    paused(guest, *do(ASK, "grpc_call auth s m 0 x", "grpc_stream auth s m", "grpc_cancel 14"))
    performer.calls[0].respond(OK, b"", ())
    performer.calls[1].answer(b"x")
    assert [(call.handle, call.grpc) for call in performer.calls] == [(None, None)] * 3


# --- gRPC


def test_a_unary_call(guest: Guest, performer: Performer) -> None:
    paused(
        guest,
        *do("grpc_call auth pkg.Service Check 250 me%00ssage a=1 a=2"),
        "grpc_receive buffer 5 0 100",
        "grpc_receive status",
    )
    assert guest.take()[-1] == "grpc_call: OK 5"
    metadata = ((b"a", b"1"), (b"a", b"2"))
    assert performer.requests == [GrpcRequest(b"auth", b"pkg.Service", b"Check", metadata, b"me\0ssage", 250)]
    performer.calls[0].answer(b"yes")
    assert guest.take() == ["grpc_receive 1 5 3", "buffer: OK yes", "status: OK 0"]
    assert len(guest.vm.calls) == 0


def test_a_unary_call_that_fails(guest: Guest, performer: Performer) -> None:
    paused(guest, *do("grpc_call auth s m 0 x"), "grpc_close status", "grpc_close buffer 5 0 9")
    guest.take()
    performer.calls[0].close(7, b"no entry")
    assert guest.take() == ["grpc_close 1 5 7", "status: OK 7 no entry", "buffer: NOT_FOUND"]


def test_a_stream_from_its_beginning_to_its_end(guest: Guest, performer: Performer) -> None:
    paused(
        guest,
        *do("grpc_stream auth s m k=v"),
        *("grpc_initial_metadata pairs 4", "grpc_initial_metadata grpc_send 6 one 0", "grpc_receive buffer 5 0 9"),
        *("grpc_receive#2 grpc_send 6 two 1", "grpc_trailing_metadata pairs 5", "grpc_trailing_metadata pairs 4"),
        *("grpc_close status", "grpc_close grpc_send 6 three 0"),
    )
    assert guest.take()[-1] == "grpc_stream: OK 6"
    call = performer.calls[0]
    call.initial_metadata(((b"a", b"b"),))
    call.message(b"1")
    call.message(b"")
    call.trailing_metadata(((b"grpc-status", b"0"),))
    call.close(0, b"")
    assert guest.take() == [
        *("grpc_initial_metadata 1 6 1", "pairs: OK a=b", "grpc_send: OK"),
        *("grpc_receive 1 6 1", "buffer: OK 1", "grpc_receive 1 6 0", "buffer: OK", "grpc_send: OK"),
        *("grpc_trailing_metadata 1 6 1", "pairs: OK grpc-status=0", "pairs: OK null"),
        *("grpc_close 1 6 0", "status: OK 0", "grpc_send: NOT_FOUND"),
    ]
    assert performer.log == ["send one", "send two eos"]


def test_what_is_no_call_of_this_kind(guest: Guest, performer: Performer) -> None:
    paused(
        guest,
        *do(ASK, "grpc_call auth s m 0 x"),
        *do(
            "grpc_send 4 x 0",
            "grpc_send 9 x 0",
            "grpc_send 10 x 0",
            "grpc_close 4",
            "grpc_cancel 4",
            "grpc_close 13",
            "grpc_cancel 14",
        ),
    )
    assert guest.take()[-7:] == [
        *("grpc_send: BAD_ARGUMENT", "grpc_send: BAD_ARGUMENT", "grpc_send: NOT_FOUND"),
        *("grpc_close: BAD_ARGUMENT", "grpc_cancel: BAD_ARGUMENT", "grpc_close: NOT_FOUND", "grpc_cancel: NOT_FOUND"),
    ]


def test_cancelled_is_over_and_closed_is_half_over(guest: Guest, performer: Performer) -> None:
    paused(
        guest,
        *do("grpc_stream auth s m", "grpc_cancel 6", "grpc_cancel 6", "grpc_stream auth s m", "grpc_close 10"),
        *do("grpc_call auth s m 0 x", "grpc_close 13", "grpc_close 13"),
    )
    assert guest.take()[-8:] == [
        *("grpc_stream: OK 6", "grpc_cancel: OK", "grpc_cancel: NOT_FOUND", "grpc_stream: OK 10", "grpc_close: OK"),
        *("grpc_call: OK 13", "grpc_close: OK", "grpc_close: NOT_FOUND"),
    ]
    assert performer.log == ["cancel", "close", "cancel"]
    for call in performer.calls:
        call.close(1, b"cancelled")
    assert guest.take() == ["grpc_close 1 10 1"]


# --- where requests wait for calls, as in APISIX


def test_a_request_waits_for_the_last_of_its_calls(engine: Engine, performer: Performer) -> None:
    performer.holds_requests = True
    guest = Guest(engine, console(), None, performer)
    stream = open_stream(guest.root(*do(ASK, ASK), "http_call_response#1 effective 2", f"http_call_response#1 {ASK}"))
    answer = stream.request_headers(HEAD, True)
    assert isinstance(answer, Outcome)
    assert answer.paused
    for number in range(2):
        performer.calls[number].respond(OK, b"", ())
        assert guest.recorder.told == []
    performer.calls[2].respond(OK, b"", ())
    assert [(told, outcome.effects) for told, outcome in guest.recorder.told] == [(stream.id, Effect.CONTINUE_REQUEST)]
    guest.vm.close()


def test_a_request_without_calls_goes_on(engine: Engine, performer: Performer) -> None:
    performer.holds_requests = True
    guest = Guest(engine, console(), None, performer)
    answer = open_stream(guest.root(f"tick {ASK}")).request_headers(HEAD, True)
    assert isinstance(answer, Outcome)
    assert not answer.paused
    guest.vm.close()


def test_a_large_body_goes_and_comes(engine: Engine, performer: Performer) -> None:
    guest = Guest(engine, console(), None, performer)
    paused(guest, *do(ASK), "http_call_response buffer_status 4", "http_call_response buffer 4 999999 100")
    guest.take()
    performer.calls[0].respond(OK, b"x" * 1_000_000, ())
    assert guest.take() == ["http_call_response 1 4 2 1000000 0", "buffer_status: OK 1000000 0", "buffer: OK x"]
    guest.vm.close()
