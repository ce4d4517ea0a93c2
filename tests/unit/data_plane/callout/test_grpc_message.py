"""gRPC's own protocol: frames however they are cut, statuses, and what metadata may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.callout.grpc_message import BadFrame, BadGrpcCall, Deframer, final_status, frame, refused, request_fields
from shared.proxy_wasm.pairs import Pairs


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 30), max_size=40))
def test_messages_come_out_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(frame, messages))
    deframer, found = Deframer(100), []
    for size in [*cuts, len(data) or 1]:
        deframer.feed(data[:size])
        data = data[size:]
        while (message := deframer.next()) is not None:
            found.append(message)
    assert found == messages
    assert deframer.is_empty()


@pytest.mark.parametrize(("data", "status"), [(b"\1\0\0\0\1x", 13), (b"\0\0\0\0\x0bx", 8), (b"\0\xff\xff\xff\xff", 8)])
def test_what_no_message_may_be_is_known_by_its_prefix(data: bytes, status: int) -> None:
    deframer = Deframer(10)
    deframer.feed(data)
    with pytest.raises(BadFrame) as raised:
        deframer.next()
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (((b"grpc-status", b"0"),), (0, b"")),
        (((b"grpc-status", b"16"), (b"grpc-message", b"a%20b%E2%82%ac%")), (16, "a b€%".encode())),
        (((b"grpc-status", b"17"),), (2, b"")),
        (((b"grpc-status", b"-1"),), (2, b"no status")),
        (((b"grpc-status", b"0000000000"),), (2, b"no status")),
        ((), (2, b"no status")),
    ],
)
def test_final_statuses(fields: Pairs, expected: tuple[int, bytes]) -> None:
    assert final_status(fields) == expected


@pytest.mark.parametrize(
    ("status", "content_type", "expected"),
    [
        (b"200", b"application/grpc", None),
        (b"200", b"application/grpc+proto", None),
        (b"200", b"text/html", 2),
        (b"401", b"application/grpc", 16),
        (b"403", b"", 7),
        (b"404", b"", 12),
        (b"503", b"", 14),
        (b"302", b"", 2),
    ],
)
def test_answers_that_are_not_grpcs(status: bytes, content_type: bytes, expected: int | None) -> None:
    problem = refused(((b":status", status), (b"content-type", content_type)))
    assert (None if problem is None else problem[0]) == expected


@pytest.mark.parametrize(
    ("seconds", "timeout"),
    [(0.0, None), (0.25, b"250m"), (2.0, b"2000m"), (99_999.999, b"99999999m"), (2_147_483.0, b"2147483S")],
)
def test_timeouts(seconds: float, timeout: bytes | None) -> None:
    assert dict(request_fields(b"http", b"s", b"m", seconds, ())).get(b"grpc-timeout") == timeout


def test_metadata_is_lowered_and_the_protocols_own_is_left_out() -> None:
    fields = request_fields(
        b"http", b"a.B", b"C", 0, ((b"X-Y", b"1"), (b"te", b"x"), (b"grpc-timeout", b"1S"), (b"x-bin", b"AA=="))
    )
    assert fields[:3] == [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C")]
    assert fields[-2:] == [(b"x-y", b"1"), (b"x-bin", b"AA==")]
    assert len(fields) == 8


@pytest.mark.parametrize(
    ("service", "method", "metadata"),
    [
        (b"", b"m", ()),
        (b"s", b"", ()),
        (b"s/", b"m", ()),
        (b"s", b"m?x", ()),
        (b"s", b"m", ((b":path", b"/"),)),
        (b"s", b"m", ((b"", b"x"),)),
        (b"s", b"m", ((b"a b", b"x"),)),
        (b"s", b"m", ((b"a", b"x\n"),)),
    ],
)
def test_what_cannot_be_called(service: bytes, method: bytes, metadata: Pairs) -> None:
    with pytest.raises(BadGrpcCall):
        request_fields(b"http", service, method, 0, metadata)
