"""A plugin's fields as a request, and a response as fields: what leaves has one reading, whatever the plugin wrote."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.callout.http_message import BadCall, compose, read_fields, response_fields, trailer_fields
from data_plane.http.head import parse_response
from shared.proxy_wasm.pairs import Pairs

NEEDED = ((b":method", b"GET"), (b":path", b"/"), (b":authority", b"h"))


def wire(fields: Pairs, body: bytes = b"", trailers: Pairs = (), *, defaults: bool = False) -> bytes:
    asked = read_fields(fields, defaults=defaults)
    head, outgoing = compose(asked, asked.authority, body, trailers)
    outgoing.begin(head.open)
    return outgoing.take()


def test_fields_keep_their_order_names_and_repetitions() -> None:
    fields = (*NEEDED, (b"B", b"1"), (b"a", b""), (b"B", b"2 \xff"))
    assert wire(fields) == b"GET / HTTP/1.1\r\nHost: h\r\nB: 1\r\na: \r\nB: 2 \xff\r\n\r\n"


@pytest.mark.parametrize(
    "name", [b"content-length", b"Transfer-Encoding", b"connection", b"TE", b"trailer", b"upgrade", b"Expect", b"keep-alive"]
)
def test_framing_is_not_the_plugins(name: bytes) -> None:
    assert wire((*NEEDED, (name, b"x"))) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(("method", "line"), [(b"POST", b"Content-Length: 0\r\n"), (b"GET", b""), (b"DELETE", b"")])
def test_an_empty_body(method: bytes, line: bytes) -> None:
    assert wire(((b":method", method), *NEEDED[1:])) == method + b" / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n"


def test_trailers_without_a_body() -> None:
    sent = wire(NEEDED, b"", ((b"t", b"1"),))
    assert sent.endswith(b"Transfer-Encoding: chunked\r\n\r\n0\r\nt: 1\r\n\r\n")


def test_what_apisix_fills_in() -> None:
    assert wire((), defaults=True) == b"GET / HTTP/1.1\r\n\r\n"
    assert wire(((b":path", b"a?b"), (b"host", b"x")), defaults=True) == b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(BadCall, match=r":method, :authority must be given"):
        read_fields(((b":path", b"/"),), defaults=False)


printable = st.binary(max_size=12) | st.sampled_from(
    [b"\r\n", b"a: b", b":path", b"host", b"content-length", b"\0", b" ", b"x"]
)


@given(
    st.lists(st.tuples(st.sampled_from([b":method", b":path", b":authority", b":scheme"]) | printable, printable), max_size=6),
    st.binary(max_size=20),
    st.lists(st.tuples(printable, printable), max_size=2),
    st.booleans(),
)
def test_whatever_it_writes_is_one_request_or_refused(
    fields: list[tuple[bytes, bytes]], body: bytes, trailers: list[tuple[bytes, bytes]], defaults: bool
) -> None:
    try:
        sent = wire((*NEEDED, *fields), body, tuple(trailers), defaults=defaults)
    except BadCall:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    seen: list[object] = []
    while not seen or not isinstance(seen[-1], h11.EndOfMessage):
        event = server.next_event()
        assert event is not h11.NEED_DATA, sent
        seen.append(event)
    request, end = seen[0], seen[-1]
    assert isinstance(request, h11.Request)
    assert isinstance(end, h11.EndOfMessage)
    assert b"".join(bytes(event.data) for event in seen if isinstance(event, h11.Data)) == body
    assert len(request.headers) <= len(fields) + 2
    assert len(end.headers) == len(trailers)
    assert server.trailing_data == (b"", False)


def test_a_response_as_fields() -> None:
    response = parse_response(
        b"HTTP/1.1 404 Not Found\r\nServer: x\r\nA:  b \r\nA: c\r\nContent-Length: 3\r\nConnection: close\r\n"
    )
    assert response_fields(response) == (
        (b":status", b"404"),
        (b"server", b"x"),
        (b"a", b"b"),
        (b"a", b"c"),
        (b"content-length", b"3"),
    )


def test_trailers_frame_nothing() -> None:
    assert trailer_fields(b"X: 1\r\nContent-Length: 2\r\nTE: x\r\n") == ((b"x", b"1"),)
