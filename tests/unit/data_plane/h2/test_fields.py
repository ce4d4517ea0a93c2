"""Field blocks as heads of HTTP/1 and back: what has one reading passes, everything else is refused by name."""

from __future__ import annotations

import h11
import pytest
from hpack import NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from data_plane.exchange.messages import CHUNKED
from data_plane.h2.fields import (
    Field,
    MalformedError,
    line_fields,
    request_fields,
    request_head,
    response_fields,
    response_head,
    trailer_fields,
    trailer_lines,
)
from data_plane.http.head import HeadError, parse_request
from tests.support.h2_client import Fields, request


def without(name: bytes, *more: Field) -> Fields:
    return [field for field in request() if field[0] != name] + list(more)


# From RFC 9113, section 8.2 and 8.3, if not said otherwise.
REFUSED: list[tuple[str, Fields, str]] = [
    ("no method", without(b":method"), "malformed"),
    ("no scheme", without(b":scheme"), "malformed"),
    ("no path", without(b":path"), "malformed"),
    ("no authority", without(b":authority"), "bad_host"),
    ("two paths", request(b"GET", b"/", (b":path", b"/admin")), "malformed"),
    ("a pseudo-field behind a field", [*without(b":path", (b"a", b"b")), (b":path", b"/")], "malformed"),
    ("a pseudo-field behind Host", [*without(b":path", (b"host", b"t")), (b":path", b"/")], "malformed"),
    ("a pseudo-field of a response", [*request(), (b":status", b"200")], "malformed"),
    ("an unknown pseudo-field", [(b":protocol", b"websocket"), *request()], "malformed"),
    ("an empty path", [*without(b":path"), (b":path", b"")], "malformed"),
    ("CONNECT", [(b":method", b"CONNECT"), (b":authority", b"t:80")], "method_refused"),
    ("extended CONNECT, which was not offered", [(b":protocol", b"websocket"), *request(b"CONNECT")], "malformed"),
    ("a method in lower case", request(b"get"), "malformed"),
    ("a method with a space", request(b"GET /x HTTP/1.1"), "malformed"),
    ("a method that nobody knows", request(b"FOO-BAR"), "bad_request"),
    ("another scheme", [(b":scheme", b"ftp"), *without(b":scheme")], "malformed"),
    ("an absolute path", request(b"GET", b"http://other/x"), "bad_target"),
    ("a path without a slash", request(b"GET", b"x"), "bad_target"),
    ("an asterisk for GET", request(b"GET", b"*"), "bad_target"),
    ("a path with a space", request(b"GET", b"/ HTTP/1.1"), "bad_target"),
    ("a path with a line end", request(b"GET", b"/\r\nx: y"), "bad_target"),
    ("a path with a fragment", request(b"GET", b"/a#b"), "bad_target"),
    ("a path with NUL", request(b"GET", b"/\0"), "bad_target"),
    ("an ambiguous path", request(b"GET", b"/a/..%2fb"), "bad_path"),
    ("a name in upper case", request(b"GET", b"/", (b"X-A", b"b")), "malformed"),
    ("an empty name", request(b"GET", b"/", (b"", b"b")), "malformed"),
    ("a name with a colon", request(b"GET", b"/", (b"a:b", b"c")), "malformed"),
    ("a name with a line end", request(b"GET", b"/", (b"a\r\nb", b"c")), "malformed"),
    ("a name with a space", request(b"GET", b"/", (b"a b", b"c")), "malformed"),
    ("a value with CR LF", request(b"GET", b"/", (b"a", b"b\r\ntransfer-encoding: chunked")), "malformed"),
    ("a value with LF", request(b"GET", b"/", (b"a", b"b\nc")), "malformed"),
    ("a value with CR", request(b"GET", b"/", (b"a", b"b\rc")), "malformed"),
    ("a value with NUL", request(b"GET", b"/", (b"a", b"b\0c")), "malformed"),
    ("a value that begins with a blank", request(b"GET", b"/", (b"a", b" b")), "malformed"),
    ("a value that ends with a tab", request(b"GET", b"/", (b"a", b"b\t")), "malformed"),
    ("Connection", request(b"GET", b"/", (b"connection", b"close")), "malformed"),
    ("Keep-Alive", request(b"GET", b"/", (b"keep-alive", b"timeout=5")), "malformed"),
    ("Proxy-Connection", request(b"GET", b"/", (b"proxy-connection", b"close")), "malformed"),
    ("Transfer-Encoding", request(b"POST", b"/", (b"transfer-encoding", b"chunked")), "malformed"),
    ("Upgrade", request(b"GET", b"/", (b"upgrade", b"h2c")), "malformed"),
    ("TE that is not trailers", request(b"GET", b"/", (b"te", b"trailers, gzip")), "malformed"),
    ("another Host", request(b"GET", b"/", (b"host", b"other")), "bad_host"),
    ("two Hosts", request(b"GET", b"/", (b"host", b"t"), (b"host", b"t")), "bad_host"),
    ("a Host with a line end", without(b":authority", (b"host", b"t\r\nx: y")), "malformed"),
    ("an authority with a line end", [*without(b":authority"), (b":authority", b"t\r\nx: y")], "bad_host"),
    ("an authority with a user", [*without(b":authority"), (b":authority", b"u@t")], "bad_host"),
    ("an authority with a path", [*without(b":authority"), (b":authority", b"t/x")], "bad_host"),
    ("a length that is none", request(b"POST", b"/", (b"content-length", b"+5")), "bad_request"),
    ("two lengths", request(b"POST", b"/", (b"content-length", b"5"), (b"content-length", b"5")), "bad_request"),
    ("too many fields", request(b"GET", b"/", *[(b"a", b"b")] * 101), "head_too_large"),
    ("too many cookies", request(b"GET", b"/", *[(b"cookie", b"b=c")] * 101), "head_too_large"),
    ("too many bytes", request(b"GET", b"/", *[(b"a", b"b" * 4000)] * 9), "head_too_large"),
    ("a target that is too long", request(b"GET", b"/" + b"a" * 9000), "target_too_long"),
]


@pytest.mark.parametrize(("fields", "kind"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(fields: Fields, kind: str) -> None:
    with pytest.raises((HeadError, MalformedError)) as caught:
        parse_request(request_head(fields, False))
    assert (caught.value.kind if isinstance(caught.value, HeadError) else "malformed") == kind


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (request(), b"GET /p HTTP/1.1\r\nHost: t\r\n"),
        (without(b":authority", (b"host", b"t")), b"GET /p HTTP/1.1\r\nHost: t\r\n"),
        (request(b"GET", b"/p", (b"host", b"T:80")), b"GET /p HTTP/1.1\r\nHost: t\r\n"),
        (request(b"OPTIONS", b"*"), b"OPTIONS * HTTP/1.1\r\nHost: t\r\n"),
        (request(b"GET", b"/p", (b"te", b"trailers"), (b"x", b"")), b"GET /p HTTP/1.1\r\nHost: t\r\nx: \r\n"),
        (
            request(b"GET", b"/p", (b"cookie", b"a"), (b"x", b"y"), (b"cookie", b"b")),
            b"GET /p HTTP/1.1\r\nHost: t\r\nx: y\r\ncookie: a; b\r\n",
        ),
    ],
)
def test_heads(fields: Fields, expected: bytes) -> None:
    assert request_head(fields, True) == expected


def test_a_body_is_framed_as_it_was_declared() -> None:
    assert request_head(request(), False).endswith(b"\r\ntransfer-encoding: chunked\r\n")
    assert parse_request(request_head(request(b"POST", b"/", (b"content-length", b"5")), False)).fields.length == 5


tokens = st.text("abcxyz-_09", min_size=1, max_size=8).map(str.encode)
names = st.one_of(tokens, st.sampled_from([b"te", b"host", b"cookie", b"content-length", b"connection", b":path", b":method"]))
values = st.one_of(
    st.text("ab/ ,;=\t", max_size=8).map(str.encode),
    st.binary(max_size=8),
    st.sampled_from([b"trailers", b"5", b"t", b"/x"]),
)


@given(st.lists(st.tuples(names, values), max_size=6), st.booleans())
def test_what_passes_is_read_alike_by_another_parser(more: Fields, eos: bool) -> None:
    """llhttp has seen it already."""
    try:
        head = request_head(request(b"POST", b"/p", *more), eos)
    except (HeadError, MalformedError):
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(head + b"\r\n")
    event = other.next_event()
    assert isinstance(event, h11.Request)
    seen = [(name, value) for name, value in event.headers if name not in (b"host", b"cookie", b"transfer-encoding")]
    sent = [(name, value) for name, value in more if name not in (b"host", b"cookie", b"te")]
    assert sorted(seen) == sorted(sent)
    assert (event.method, event.target) == (b"POST", b"/p")


def test_a_response_leaves_without_what_concerns_a_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nConnection: close\r\nSet-Cookie: a\r\n\r\n"
    fields = response_fields(head)
    assert fields == [(b":status", b"200"), (b"server", b"x"), (b"content-length", b"5"), (b"set-cookie", b"a")]
    assert isinstance(fields[-1], NeverIndexedHeaderTuple)


def test_trailers_are_no_fields_of_the_message() -> None:
    assert trailer_lines([(b"x-a", b"b"), (b"content-length", b"5"), (b"host", b"x")]) == b"x-a: b\r\n"
    assert trailer_fields(b"X-A: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n") == [(b"x-a", b"b")]


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"X", b"y"), (b"x", b"y\r\nz: 1"), (b"x", b"y ")])
def test_malformed_trailers(field: Field) -> None:
    with pytest.raises(MalformedError):
        trailer_lines([field])


def test_a_request_for_an_upstream() -> None:
    head = b"POST /s/m HTTP/1.1\r\nHost: t:1\r\nUser-Agent: x\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade"
    assert request_fields(head, b"http") == (
        [
            *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/m"), (b":authority", b"t:1")),
            *((b"user-agent", b"x"), (b"te", b"trailers")),
        ],
        CHUNKED,
    )


def test_an_upstreams_response() -> None:
    response = response_head([(b":status", b"200"), (b"content-length", b"5"), (b"x", b"y")])
    assert (response.status, response.length, response.framing) == (200, 5, b"Content-Length: 5\r\n")
    assert response.open == b"HTTP/1.1 200 OK\r\nx: y\r\n"
    assert response_head([(b":status", b"299")]).open == b"HTTP/1.1 299 \r\n"
    failed = response_head([(b":status", b"503"), (b"x-apisix-upstream-status", b"502"), (b"x", b"y")])
    assert failed.open == b"HTTP/1.1 503 Service Unavailable\r\nX-APISIX-Upstream-Status: 503\r\nx: y\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"x", b"y")],
        [(b":status", b"20")],
        [(b":status", b"+20")],
        [(b":status", b"099")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b"x", b"y"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"X", b"y")],
        [(b":status", b"200"), (b"x", b"y\r\nset-cookie: z")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
        [(b":status", b"200"), (b"content-length", b"1_0")],
        [(b":status", b"200"), *[(b"a", b"b")] * 300],
    ],
)
def test_an_upstreams_response_without_one_reading(fields: Fields) -> None:
    with pytest.raises(HeadError):
        response_head(fields)


def test_lines_without_a_name_are_none() -> None:
    assert line_fields(b"\r\n: x\r\nA:b\r\n", frozenset()) == [(b"a", b"b")]
