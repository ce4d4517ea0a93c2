"""What a head means; the raw cases over a socket are in integration/data_plane/test_rfc9112.py."""

from __future__ import annotations

import h11
import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from data_plane.exchange import upstream_status
from data_plane.exchange.messages import CHUNKED, UNTIL_CLOSE, RequestHead
from data_plane.http import head
from data_plane.http.forwarded import Received
from data_plane.http.head import NO_FIELDS, HeadError, parse_request, parse_response


def request(*lines: bytes, line: bytes = b"GET /p HTTP/1.1") -> bytes:
    return b"".join(one + b"\r\n" for one in (line, *lines))


def test_a_head_with_nothing_to_take_out_is_its_own_open_head() -> None:
    raw = request(b"Host: T.Example:8080", b"X-A: 1", line=b"GET /a/b.c?d=%20e HTTP/1.1")
    head = parse_request(raw)
    assert head.open == raw
    assert (head.method, head.path) == (b"GET", b"/a/b.c")
    assert (head.fields.authority, head.fields.host) == (b"T.Example:8080", b"t.example")
    assert (head.fields.length, head.fields.framing, head.fields.keep_alive) == (0, b"", True)


def test_special_fields_are_taken_out_and_the_others_kept_as_they_came() -> None:
    fields = (b"X-A:  1 ", b"Connection: keep-alive", b"hOsT: t", b"Content-Length: 5", b"x-b:\t2", b"TE: trailers", b"X-C: 3")
    head = parse_request(request(*fields))
    assert head.open == request(b"Host: t", b"X-A:  1 ", b"x-b:\t2", b"X-C: 3")
    assert (head.fields.length, head.fields.framing) == (5, b"Content-Length: 5\r\n")


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"upgrade", False),
    ],
)
def test_persistence(version: bytes, connection: bytes | None, keep_alive: bool) -> None:
    fields = () if connection is None else (b"Connection: " + connection,)
    assert parse_request(request(b"Host: t", *fields, line=b"GET / HTTP/" + version)).fields.keep_alive is keep_alive


@pytest.mark.parametrize("name", [b"x-hop", b"X-HOP", b"x-hop,close", b" , x-hop", b"x-other, x-hop"])
def test_fields_that_connection_names_are_dropped(name: bytes) -> None:
    head = parse_request(request(b"Host: t", b"X-Hop: 1", b"Connection: " + name, b"X-Hop-2: 2", b"x-hop: 3"))
    assert head.open == request(b"Host: t", b"X-Hop-2: 2")


def test_connection_cannot_drop_the_host() -> None:
    assert b"Host: t\r\n" in parse_request(request(b"Host: t", b"Connection: host, content-length")).open


def test_what_others_have_forwarded_is_kept_apart() -> None:
    def lines(authority: bytes, received: Received) -> bytes:
        return b"Seen: %b|%b\r\n" % (authority, b"/".join(received[b"x-forwarded-for"]))

    raw = request(b"Host: t", b"X-Forwarded-For: a", b"x-forwarded-for: ", b"X-FORWARDED-FOR: b, c")
    assert parse_request(raw, NO_FIELDS, lines).open == request(b"Host: t", b"Seen: t|a//b, c")


@pytest.mark.parametrize(
    "name", [b"X-Consumer-Username", b"x_consumer_username", b"X-Credential_Identifier", b"X-CONSUMER-CUSTOM-ID"]
)
def test_no_client_says_who_the_consumer_is(name: bytes) -> None:
    head = parse_request(request(b"Host: t", b"A: 1", name + b": root", b"X-Consumer: stays", b"X-Consumer-Username2: stays"))
    assert head.open == request(b"Host: t", b"A: 1", b"X-Consumer: stays", b"X-Consumer-Username2: stays")


def test_http_1_0_needs_no_host() -> None:
    head = parse_request(request(b"X: 1", line=b"GET / HTTP/1.0"))
    assert (head.fields.authority, head.fields.host, head.open) == (b"", b"", request(b"X: 1", line=b"GET / HTTP/1.1"))


def test_http_1_0_with_a_body() -> None:
    assert parse_request(request(b"Content-Length: 3", line=b"POST / HTTP/1.0")).fields.length == 3


def test_max_forwards_counts_down_for_options_and_only_for_them() -> None:
    lines = (b"Host: t", b"X-A: 1", b"max-forwards:  010 ", b"X-B: 2")
    head = parse_request(request(*lines, line=b"OPTIONS /p HTTP/1.1"))
    assert head.open == request(b"Host: t", b"X-A: 1", b"max-forwards:  9 ", b"X-B: 2", line=b"OPTIONS /p HTTP/1.1")
    after = parse_request(request(*lines), head.fields)
    assert after.open == request(*lines)


@pytest.mark.parametrize("target", [b"*", b"/p"])
def test_options_that_may_go_no_further(target: bytes) -> None:
    assert kind_of(request(b"Host: t", b"Max-Forwards: 0", line=b"OPTIONS " + target + b" HTTP/1.1")) == "no_more_forwards"


def test_an_expectation() -> None:
    assert parse_request(request(b"Host: t", b"Expect: 100-Continue")).fields.expects_continue
    assert not parse_request(request(b"Host: t", b"Expect: 100-continue", line=b"GET / HTTP/1.0")).fields.expects_continue
    for fields in ((b"Expect: x",), (b"Expect: 100-continue", b"Expect: 100-continue"), (b"Expect:",)):
        assert kind_of(request(b"Host: t", *fields)) == "expectation_failed"


REPEATED = (
    request(b"X-A: 1", b"Host: t", b"X-B: 2", line=b"GET /a?b HTTP/1.1"),
    request(b"Host: t", b"Connection: close", b"X-B: 2", line=b"HEAD / HTTP/1.1"),
    request(b"Host: t", b"Content-Length: 3", line=b"POST / HTTP/1.1"),
    request(b"Host: t", b"Connection: keep-alive", line=b"GET / HTTP/1.0"),
    request(b"Host: t", b"X-A: 1", line=b"GET http://T/a HTTP/1.1"),
    request(b"Host: t", b"X-A: 1", line=b"GET /a//b/../c HTTP/1.1"),
    request(b"Host: t", b"X-A: 1", line=b"OPTIONS * HTTP/1.1"),
)


def meaning(head: RequestHead) -> tuple[object, ...]:
    fields = head.fields
    framing = (fields.length, fields.framing, fields.keep_alive, fields.minor_version, fields.expects_continue)
    return head.method, head.path, head.open, fields.authority, fields.host, framing


@pytest.mark.parametrize("raw", REPEATED)
@pytest.mark.parametrize("line", [b"GET /b HTTP/1.1", b"GET /b HTTP/1.0", b"GET http://t/b HTTP/1.1"])
def test_what_the_request_before_it_said_changes_no_meaning(raw: bytes, line: bytes) -> None:
    known = parse_request(raw).fields
    lines = raw.partition(b"\r\n")[2]
    for second in (b"%b\r\n%b" % (line, lines), b"%b\r\n%bX-C: 3\r\n" % (line, lines)):
        assert meaning(parse_request(second, known)) == meaning(parse_request(second))


def test_field_lines_that_a_client_repeats_are_read_once() -> None:
    first = parse_request(request(b"X-A: 1", b"Host: t", line=b"GET /a HTTP/1.1"))
    second = parse_request(request(b"X-A: 1", b"Host: t", line=b"PUT /b?c HTTP/1.1"), first.fields)
    assert second.fields is first.fields
    assert (second.method, second.path, second.open) == (
        b"PUT",
        b"/b",
        request(b"X-A: 1", b"Host: t", line=b"PUT /b?c HTTP/1.1"),
    )


def kind_of(raw: bytes) -> str | None:
    try:
        parse_request(raw)
    except HeadError as error:
        return error.kind
    return None


LIMITS = [
    (request(b"Host: t", *[b"A: b"] * 99), None),
    (request(b"Host: t", *[b"A: b"] * 100), "head_too_large"),
    (request(b"Host: t", *[b"Te: b"] * 100), "head_too_large"),
    (request(b"Host: t", line=b"GET /%b HTTP/1.1" % (b"a" * 8191)), None),
    (request(b"Host: t", line=b"GET /%b HTTP/1.1" % (b"a" * 8192)), "target_too_long"),
    (request(b"Host: t", line=b"GET /?%b HTTP/1.1" % (b"a" * 8192)), "target_too_long"),
    (request(b"Host: t", b"X: " + b"a" * 9000), None),
]


@pytest.mark.parametrize(("raw", "kind"), LIMITS)
def test_limits(raw: bytes, kind: str | None) -> None:
    assert kind_of(raw) == kind


RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 200, 5, True, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 007 \r\n", 200, 7, True, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.1 204\r\n", 204, UNTIL_CLOSE, True, b"HTTP/1.1 204 \r\n"),
    (b"HTTP/1.0 200 OK\r\nA: b\r\n", 200, UNTIL_CLOSE, False, b"HTTP/1.1 200 OK\r\nA: b\r\n"),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n", 200, 1, True, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n", 200, 1, True, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", 200, CHUNKED, True, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", 200, UNTIL_CLOSE, False, b"HTTP/1.1 200 OK\r\n"),
    (b"HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: x-hop\r\n", 200, UNTIL_CLOSE, True, b"HTTP/1.1 200 OK\r\n"),
    (
        b"HTTP/1.1 599 \xe9\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nX: 1\r\n",
        599,
        UNTIL_CLOSE,
        True,
        b"HTTP/1.1 599 \xe9\r\nX-APISIX-Upstream-Status: 599\r\nX: 1\r\n",
    ),
    (
        b"HTTP/1.1 500 No\r\nA: b\r\nx-apisix-upstream-status: 502\r\nContent-Length: 0\r\nX-Apisix-Upstream-Status:\r\n",
        500,
        0,
        True,
        b"HTTP/1.1 500 No\r\nX-APISIX-Upstream-Status: 500\r\nA: b\r\n",
    ),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n", 404, 5, True, b"HTTP/1.1 404 Not Found\r\n"),
    (b"HTTP/1.1 200 Fine\tby \x80me\r\nX: 1\r\n", 200, UNTIL_CLOSE, True, b"HTTP/1.1 200 Fine\tby \x80me\r\nX: 1\r\n"),
]


@pytest.mark.parametrize(("raw", "status", "length", "keep_alive", "opened"), RESPONSES)
def test_responses(raw: bytes, status: int, length: int, keep_alive: bool, opened: bytes) -> None:
    found = parse_response(raw)
    assert (found.status, found.length, found.keep_alive, found.open) == (status, length, keep_alive, opened)


def test_an_operator_may_want_to_see_every_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_status, "_shown_from", 500)
    for table in ("_STATUS_LINES", "_PLAIN_LINES"):
        monkeypatch.setattr(head, table, dict(getattr(head, table)))
    head.show_upstream_status_always()
    said = [parse_response(b"HTTP/1.1 %b\r\n" % line).open for line in (b"200 OK", b"404 Not Found", b"103 Early Hints")]
    assert [text.count(b"X-APISIX-Upstream-Status") for text in said] == [1, 1, 0]


BAD_RESPONSES = [
    b"HTTP/1.1 200 O\0K\r\n",
    b"HTTP/1.1 200 OK\x0b\r\n",
    b"HTTP/1.1 404 Not\x7fFound\r\n",
    b"HTTP/1.1 200 OK\rX: y\r\n",
    b"HTTP/2.0 200 OK\r\n",
    b"HTTP/1.1 099 OK\r\n",
    b"HTTP/1.1 +20 OK\r\n",
    b"HTTP/1.1  200 OK\r\n",
    b"http/1.1 200 OK\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: \r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
]


@pytest.mark.parametrize("raw", BAD_RESPONSES)
def test_responses_that_mean_nothing(raw: bytes) -> None:
    with pytest.raises(HeadError):
        parse_response(raw)


# Heads grown from what matters: names and values that frame, route or identify, whole or damaged.
COMMON = b"Host host Content-Length content-length Transfer-Encoding Connection X-A Expect TE Upgrade Trailer Keep-Alive"
NAMES = st.sampled_from([*COMMON.split(), b"Content_Length", b"X-Forwarded-For", b"Content-Length ", b"\tHost"])
VALUES = st.one_of(
    st.sampled_from(
        [b"t", b"t:80", b"5", b"05", b"+5", b"5 5", b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"upgrade"]
    ),
    st.sampled_from([b"", b" ", b"x-a", b"a\rb", b"a\nb", b"a\x00b", b"\x80", b"a\r\n b"]),
    st.binary(max_size=6),
)
TARGETS = st.one_of(
    st.sampled_from(
        [b"/", b"/p", b"/p?q", b"*", b"http://t/p", b"http://other/", b"t:80", b"/a/../b", b"//", b"/%2e%2e", b"/a b"]
    ),
    st.binary(max_size=8).map(lambda tail: b"/" + tail),
)
HEADS = st.builds(
    lambda method, target, version, fields: b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(fields)),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get"]),
    TARGETS,
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0", b"1.2"]),
    st.lists(st.builds(lambda name, value: b"%b: %b\r\n" % (name, value), NAMES, VALUES), max_size=5).map(
        lambda fields: [b"Host: t\r\n", *fields]
    ),
)


def accepted(raw: bytes) -> RequestHead | None:
    """As the client connection takes a head: llhttp first."""
    end = raw.find(b"\r\n\r\n") + 4
    try:
        HttpRequestParser(object()).feed_data(raw[:end])
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return None
    try:
        return parse_request(raw[: end - 2])
    except HeadError:
        return None


@given(HEADS)
def test_an_open_head_is_clean_whatever_came(raw: bytes) -> None:
    head = accepted(raw)
    if head is None:
        return
    lines = head.open.split(b"\r\n")
    assert lines[-1] == b""
    assert lines[0] == b"%b %b HTTP/1.1" % (head.method, lines[0].split(b" ")[1])
    names = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in lines[1:-1]]
    assert all(name and name == name.strip() for name in names)
    assert not {b"content-length", b"transfer-encoding", b"connection", b"te", b"upgrade", b"trailer", b"expect"} & set(names)
    assert names.count(b"host") == (1 if head.fields.authority else 0)
    assert b"\n" not in head.open.replace(b"\r\n", b"")
    assert b"\r" not in head.open.replace(b"\r\n", b"")
    assert b"\x00" not in head.open


@given(HEADS)
def test_what_h11_takes_too_means_the_same_to_it(raw: bytes) -> None:
    head = accepted(raw)
    if head is None:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw[: raw.find(b"\r\n\r\n") + 4])
    try:
        event = server.next_event()
    except h11.RemoteProtocolError:
        return
    assert isinstance(event, h11.Request)
    assert event.method == head.method
    fields = dict(event.headers)
    assert head.fields.length == (CHUNKED if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0")))
    if head.fields.authority:
        assert fields[b"host"] == head.fields.authority
    assert not (head.fields.keep_alive and server.our_state is h11.MUST_CLOSE)


@given(HEADS)
def test_llhttp_sees_the_same_end(raw: bytes) -> None:
    """The law of the connection: a head without body completes the message, one with a body does not."""
    head = accepted(raw)
    if head is None or b"upgrade" in raw.lower() or head.method == b"CONNECT":
        return
    ends = []

    class Ends:
        def on_message_complete(self) -> None:
            ends.append(True)

    HttpRequestParser(Ends()).feed_data(raw[: raw.find(b"\r\n\r\n") + 4])
    assert bool(ends) is (head.fields.length == 0)


@given(st.binary(max_size=60).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail + b"\r\n"))
def test_response_heads_raise_nothing_else(raw: bytes) -> None:
    try:
        HttpResponseParser(object()).feed_data(raw + b"\r\n")
        parse_response(raw)
    except (HttpParserError, HttpParserUpgrade, HeadError):
        return
