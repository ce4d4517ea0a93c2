"""Clients that flood, or speak something else: who is told to calm down, and who may go on (RFC 9113 sections 6 and 10.5)."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from data_plane.h2.abuse import CREDIT_PER_SECOND, Patience
from data_plane.h2.frames import CONTINUATION, DATA, HEADERS, PREFACE, FrameScanner
from data_plane.h2.limits import CONCURRENT_STREAMS
from tests.support.h2_client import Fields, H2Wire, request


def headers(stream: int, fields: Fields | None = None, *, eos: bool = True) -> HeadersFrame:
    """Encoded as if it were the first of its connection, which refers to nothing before it."""
    block = Encoder().encode(fields or request())
    return HeadersFrame(stream, block, flags=["END_HEADERS", *(["END_STREAM"] if eos else [])])


def beginning(kind: int, length: int, here: int, *, ends: bool = True) -> bytes:
    """A frame of this length, of whose payload so many bytes have come."""
    return length.to_bytes(3, "big") + bytes((kind, 4 if ends else 0, 0, 0, 0, 1)) + b"x" * here


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"", 0),
        (beginning(HEADERS, 100, 30), 30),
        (beginning(DATA, 16_384, 16_000), 16_000),
        (beginning(HEADERS, 100, 100, ends=False), 100),
        (beginning(HEADERS, 100, 100, ends=False) + beginning(CONTINUATION, 50, 20, ends=False), 120),
        (beginning(HEADERS, 100, 100, ends=False) + beginning(CONTINUATION, 50, 20), 120),
        (beginning(HEADERS, 100, 100, ends=False) + beginning(CONTINUATION, 50, 50), 0),
    ],
)
def test_what_is_held_of_a_frame_that_has_not_come(data: bytes, held: int) -> None:
    scanner = FrameScanner(Patience(0), 0)
    scanner.feed(SettingsFrame(0).serialize() + data, 0)
    assert scanner.held == held


@pytest.fixture
def wire() -> H2Wire:
    return H2Wire("a")


def resets(count: int) -> list[Frame]:
    return [frame for n in range(count) for frame in (headers(2 * n + 1), RstStreamFrame(2 * n + 1, error_code=8))]


def opened(*frames: Frame) -> list[Frame]:
    """On a stream whose request is not complete."""
    return [headers(1, request(b"POST"), eos=False), *frames]


FLOODS: dict[str, list[Frame]] = {
    "rapid reset": resets(400),
    "settings": [SettingsFrame(0, settings={3: 100})] * 100,
    "ping": [PingFrame(0, b"12345678")] * 300,
    "empty data": opened(*[DataFrame(1, b"")] * 300),
    "priority": [PriorityFrame(3, depends_on=1)] * 1100,
    "window updates of nothing sent": [WindowUpdateFrame(0, window_increment=1)] * 1100,
    "frames of no known type": [ExtensionFrame(0x77, 0, 0, b"")] * 600,
    "settings answered that nobody sent": [SettingsFrame(0, flags=["ACK"])] * 1100,
    "pings answered that nobody sent": [PingFrame(0, b"12345678", flags=["ACK"])] * 1100,
    "more streams than there may be": [headers(2 * n + 1, request(b"POST"), eos=False) for n in range(400)],
    "malformed requests": [headers(2 * n + 1, [(b"a", b"b")]) for n in range(300)],
    "refused requests": [headers(2 * n + 1, request(b"GET", b"x")) for n in range(300)],
    "continuation": [
        HeadersFrame(1, b"\x82"),
        *[ContinuationFrame(1, b"")] * 20,
    ],
    "one endless head": [
        HeadersFrame(1, b"\x82"),
        *[ContinuationFrame(1, b"\0" * 16_000)] * 6,
    ],
    # Each refers to one entry of the table that is 4000 bytes long (CVE-2016-6581).
    "a header bomb": [headers(1, [(b"x" * 2000, b"y" * 2000)]), HeadersFrame(3, b"\xbe" * 1000, flags=["END_HEADERS"])],
    # h2 itself resets the stream (CVE-2025-8671).
    "resets that the client provokes": [
        frame
        for n in range(400)
        for frame in (
            headers(2 * n + 1, request(b"POST"), eos=False),
            *[WindowUpdateFrame(2 * n + 1, window_increment=2**31 - 1)],
        )
    ],
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("size", [1, 1000], ids=["one by one", "together"])
def test_a_flood_is_told_to_calm_down(wire: H2Wire, name: str, size: int) -> None:
    frames = FLOODS[name]
    wire.deaf = True
    for at in range(0, len(frames), size):
        wire.receive_frames(*frames[at : at + size])
    assert wire.goaway == "ENHANCE_YOUR_CALM"
    assert (wire.connection.busy, wire.half_closed) == (0, True)


@pytest.mark.parametrize("name", ["rapid reset", "ping", "settings", "empty data", "priority"])
def test_the_same_in_moderation_goes_on(wire: H2Wire, name: str) -> None:
    wire.deaf = True
    for frame in FLOODS[name]:
        wire.receive_frames(frame)
        wire.pass_time(20 / CREDIT_PER_SECOND)
    assert wire.goaway is None


def test_a_client_that_cancels_as_often_as_it_waits(wire: H2Wire) -> None:
    for _ in range(1000):
        kept, given_up = wire.send(request()), wire.send(request())
        wire.client.reset_stream(given_up, ErrorCodes.CANCEL)
        wire.flush()
        wire.connected(kept)
        wire.answer(kept)
    assert wire.goaway is None


def test_a_download_pays_for_its_window_updates(wire: H2Wire) -> None:
    stream = wire.send(request())
    wire.connected(stream)
    wire.answer(stream, b"x" * 100, length=-1, eos=False)
    for _ in range(3000):
        wire.exchange(stream).upstream_body(b"x" * 1000, False)
        wire.loop.advance()
        wire.client.increment_flow_control_window(1000)
        wire.client.increment_flow_control_window(1000, stream)
        wire.flush()
    assert wire.goaway is None


def test_more_streams_than_there_may_be_are_refused_the_others_go_on(wire: H2Wire) -> None:
    wire.deaf = True
    streams = [2 * n + 1 for n in range(CONCURRENT_STREAMS + 2)]
    wire.receive_frames(*(headers(stream) for stream in streams))
    assert (wire.connection.busy, wire.goaway) == (CONCURRENT_STREAMS, None)
    assert wire.stage.said.count("connect a") == CONCURRENT_STREAMS
    reset = RstStreamFrame(streams[-1], error_code=ErrorCodes.REFUSED_STREAM).serialize()
    assert bytes(wire.sent).count(reset) == 1


def test_a_malformed_request_costs_its_stream(wire: H2Wire) -> None:
    other = wire.send(request())
    bad = wire.send(request(b"GET", b"/", (b"connection", b"close")))
    assert wire.take() == ["connect a", f"{bad}: reset PROTOCOL_ERROR"]
    assert wire.connected(other)


def test_a_head_that_is_too_large_is_answered(wire: H2Wire) -> None:
    stream = wire.send(request(b"GET", b"/", *[(b"x%d" % n, b"y" * 3000) for n in range(12)]))
    assert wire.take()[0].startswith(f"{stream}: 431 ")


BROKEN: dict[str, tuple[bytes, str]] = {
    "another first frame": (PingFrame(0, b"12345678").serialize(), "PROTOCOL_ERROR"),
    "a frame that is too large": (SettingsFrame(0).serialize() + b"\0\x40\1\0\0\0\0\0\1", "FRAME_SIZE_ERROR"),
    "data of no stream": (SettingsFrame(0).serialize() + DataFrame(1, b"x").serialize(), "PROTOCOL_ERROR"),
    "a push": (
        SettingsFrame(0).serialize() + PushPromiseFrame(1, 2, b"\x82", flags=["END_HEADERS"]).serialize(),
        "PROTOCOL_ERROR",
    ),
    "a head in a head": (
        SettingsFrame(0).serialize() + HeadersFrame(1, b"\x82").serialize() + headers(3).serialize(),
        "PROTOCOL_ERROR",
    ),
    "an unknown index of the table": (
        SettingsFrame(0).serialize() + HeadersFrame(1, b"\xfe", flags=["END_HEADERS"]).serialize(),
        "PROTOCOL_ERROR",
    ),
    "an even stream": (SettingsFrame(0).serialize() + headers(2).serialize(), "PROTOCOL_ERROR"),
    "a window without end": (
        SettingsFrame(0).serialize() + WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
        "FLOW_CONTROL_ERROR",
    ),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_a_connection_that_breaks_the_protocol(data: bytes, code: str) -> None:
    wire = H2Wire("a", greets=False)
    wire.deaf = True
    wire.receive(PREFACE + data)
    assert (wire.goaway, wire.half_closed) == (code, True)
    wire.receive(data)
    wire.connection.eof_received()
    assert wire.connection.busy == 0


frames = st.one_of(
    st.binary(max_size=30),
    st.builds(
        lambda length, kind, flags, stream, payload: (
            (min(length, len(payload))).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload[:length]
        ),
        st.integers(0, 30),
        st.integers(0, 10),
        st.integers(0, 255),
        st.sampled_from([0, 1, 3, 5]),
        st.binary(max_size=30),
    ),
    st.sampled_from(
        [headers(1).serialize(), headers(3, request(b"POST"), eos=False).serialize(), DataFrame(3, b"x").serialize()]
    ),
)


@given(st.lists(frames, max_size=12), st.integers(1, 40))
def test_whatever_comes_nothing_breaks_and_pieces_do_not_matter(parts: list[bytes], size: int) -> None:
    data = PREFACE + SettingsFrame(0).serialize() + b"".join(parts)
    codes = []
    for step in (len(data), size):
        wire = H2Wire("a", greets=False)
        wire.deaf = True
        for at in range(0, len(data), step):
            wire.receive(data[at : at + step])
        codes.append((wire.half_closed, wire.connection.busy))
        wire.connection.connection_lost(None)
        assert wire.connection.busy == 0
    assert codes[0] == codes[1]
