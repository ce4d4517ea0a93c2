"""Local responses, and streams that a plugin resumes or resets."""

from __future__ import annotations

import pytest

from shared.proxy_wasm.abi import Direction, Effect
from shared.proxy_wasm.outcome import Outcome, SentReply
from tests.support.guest import Guest, open_stream

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
GRPC = GET + b"content-type: application/grpc%b\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def sent(guest: Guest, *commands: str, head: bytes = GET) -> tuple[list[str], Outcome]:
    stream = guest.stream(*(f"request_headers {command}" for command in commands))
    outcome = stream.request_headers(head, eos=True)
    assert isinstance(outcome, Outcome)
    return guest.take()[2:], outcome


def test_a_reply_is_handed_over_whole(guest: Guest) -> None:
    results, outcome = sent(guest, "reply 403 why%20not bo%00dy % Content-Type=text/x a=1 A=2 empty=")
    assert results == ["reply: OK"]
    assert outcome.effects == Effect.LOCAL_REPLY
    assert outcome.reply == SentReply(
        403, b"bo\0dy", ((b"Content-Type", b"text/x"), (b"a", b"1"), (b"A", b"2"), (b"empty", b"")), "why not", None
    )


def test_a_reply_may_be_bare(guest: Guest) -> None:
    _, outcome = sent(guest, "reply 204 % % %")
    assert outcome.reply == SentReply(204, b"", (), "", None)


@pytest.mark.parametrize("action", [0, 1])
def test_the_answer_of_a_callback_that_replied_does_not_matter(guest: Guest, action: int) -> None:
    _, outcome = sent(guest, "reply 403 % % %", "add 0 a b", f"return {action}")
    assert (outcome.paused, outcome.data) == (True, None)


def test_the_first_reply_counts(guest: Guest) -> None:
    results, outcome = sent(guest, "reply 401 % first %", "reply 500 % second %")
    assert results == ["reply: OK", "reply: OK"]
    assert outcome.reply is not None
    assert (outcome.reply.status, outcome.reply.body) == (401, b"first")


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 999, 4294967295])
def test_a_status_that_is_no_final_answer_is_refused(guest: Guest, status: int) -> None:
    results, outcome = sent(guest, f"reply {status} % % %")
    assert results == ["reply: BAD_ARGUMENT"]
    assert (outcome.paused, outcome.reply) == (False, None)


@pytest.mark.parametrize("status", [200, 204, 304, 404, 599])
def test_any_final_status_is_taken(guest: Guest, status: int) -> None:
    _, outcome = sent(guest, f"reply {status} % % %")
    assert outcome.reply is not None
    assert outcome.reply.status == status


@pytest.mark.parametrize("field", ["a=x%0d%0ay:%20z", "a%20b=c", "=c", "a%0a=c", "a=%00", ":path=/", ":status=99"])
def test_a_reply_with_an_invalid_field_is_refused(guest: Guest, field: str) -> None:
    results, outcome = sent(guest, f"reply 403 % % % good=1 {field}")
    assert results == ["reply: BAD_ARGUMENT"]
    assert outcome.reply is None
    assert not outcome.paused


def test_a_status_among_the_fields_is_left_out(guest: Guest) -> None:
    """Plugins hand the headers of another response on as they got them."""
    _, outcome = sent(guest, "reply 403 % % % :status=200 a=b")
    assert outcome.reply is not None
    assert outcome.reply.fields == ((b"a", b"b"),)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [(b"", "7", 7), (b"+proto", "0", 0), (b";x", "16", 16), (b"", "17", None), (b"", "%", None), (b"-web", "7", None)],
)
def test_a_grpc_status_is_for_grpc_requests(guest: Guest, kind: bytes, status: str, expected: int | None) -> None:
    _, outcome = sent(guest, f"reply 403 % denied {status}", head=GRPC % kind)
    assert outcome.reply is not None
    assert outcome.reply.grpc_status == expected
    _, outcome = sent(guest, f"reply 403 % denied {status}")
    assert outcome.reply is not None
    assert outcome.reply.grpc_status is None


@pytest.mark.parametrize("phase", ["request_headers", "request_body", "response_headers", "response_body"])
def test_a_reply_from_every_phase(guest: Guest, phase: str) -> None:
    stream = guest.stream(f"{phase} reply 418 % tea %")
    answers: list[object] = [stream.request_headers(GET, eos=False)]
    answers.append(stream.body(Direction.REQUEST, b"abc", eos=True))
    if phase.startswith("response"):
        answers.append(stream.response_headers(OK, eos=False))
        if phase.endswith("body"):
            answers.append(stream.body(Direction.RESPONSE, b"abc", eos=True))
    replies = [answer.reply for answer in answers if isinstance(answer, Outcome) and answer.reply is not None]
    late = phase == "response_body"  # the response is on its way: it can only be cut off by a failure
    assert [reply.status for reply in replies] == ([] if late else [418])


def test_no_reply_after_the_response_or_at_the_end(guest: Guest) -> None:
    root = guest.root("log reply 500 % % %", "tick effective 2", "tick reply 500 % % %")
    stream = open_stream(root)
    stream.request_headers(GET, eos=True)
    stream.response_headers(OK, eos=True)
    root.tick()
    assert guest.recorder.told == []
    stream.finish()
    assert guest.take()[-2:] == ["reply: OK", "delete 2"]
    assert guest.recorder.told == []


def test_a_plugin_context_has_nobody_to_reply_to(guest: Guest) -> None:
    guest.root("tick reply 500 % % %", "tick continue 0", "tick close 0").tick()
    assert guest.take()[1:] == ["reply: OK", "continue: BAD_ARGUMENT", "close: BAD_ARGUMENT"]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("continue 0", "OK"),
        ("continue 1", "OK"),
        ("continue 2", "OK"),
        ("continue 3", "OK"),
        ("continue 4", "BAD_ARGUMENT"),
        ("close 0", "OK"),
        ("close 1", "OK"),
        ("close 2", "OK"),
        ("close 3", "OK"),
        ("close 4294967295", "BAD_ARGUMENT"),
    ],
)
def test_streams_that_can_be_resumed_and_reset(guest: Guest, command: str, answer: str) -> None:
    results, _ = sent(guest, command)
    assert results == [f"{command.partition(' ')[0]}: {answer}"]


def test_a_reset_stops_the_head(guest: Guest) -> None:
    _, outcome = sent(guest, "add 0 a b", "close 0")
    assert (outcome.paused, outcome.data, outcome.effects) == (True, None, Effect.CLOSE)


def test_resuming_is_told_with_the_answer(guest: Guest) -> None:
    _, outcome = sent(guest, "continue 0", "return 1")
    assert (outcome.paused, outcome.effects) == (True, Effect.CONTINUE_REQUEST)
