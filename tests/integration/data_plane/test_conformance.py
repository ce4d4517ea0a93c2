"""Raw requests that must be refused, understood in one way, or cleaned: what is answered, and what reaches the upstream.

The law of every case: the upstream sees no more requests than the client sent, never `/smuggled`, and never a dirty head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.gateway import LiveGateway, ScriptedUpstream, UpstreamSide, live_gateway, ok, route_to, upstream
from tests.support.raw_http import RawClient, client

H = b"Host: t\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """`answers` are the statuses in order; then the connection must be closed if `closes`. `seen` are the upstream's paths."""

    name: str
    data: bytes
    answers: tuple[int, ...] = (400,)
    closes: bool = True
    seen: tuple[bytes, ...] = ()
    body: bytes | None = None


def get(*lines: bytes, target: bytes = b"/p", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%b\r\n" % (target, version, b"".join(lines))


def post(fields: bytes, body: bytes, target: bytes = b"/p") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: t\r\n%b\r\n%b" % (target, fields, body)


def passes(name: str, data: bytes, seen: bytes = b"/p", body: bytes | None = None, closes: bool = False) -> Case:
    return Case(name, data, (200,), closes, (seen,), body)


CASES = [
    # Request line.
    passes("A01 plain GET", get(H)),
    passes("empty line first", b"\r\n" + get(H)),
    passes("lower-case fields", get(b"host: t\r\n")),
    Case("A05 TAB as separator", b"GET\t/p\tHTTP/1.1\r\n" + H + b"\r\n"),
    Case("two spaces", b"GET  /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("space behind the version", b"GET /p HTTP/1.1 \r\n" + H + b"\r\n"),
    Case("A06 no version", b"GET /p\r\n" + H + b"\r\n"),
    Case("A09 version 2.0", get(H, version=b"2.0"), (505,)),
    Case("version 1.2", get(H, version=b"1.2"), (400,)),
    Case("version 0.9", get(H, version=b"0.9"), (505,)),
    Case("A13 delimiter in method", b"GE(T /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("lower-case method", b"get /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("A17 NUL in method", b"G\x00T /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("A21 preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", (505,)),
    Case("A25 bare CR", b"GET /p\rX HTTP/1.1\r\n" + H + b"\r\n"),
    Case("A26 fragment", get(H, target=b"/p#f")),
    Case("bare LF throughout", b"GET /p HTTP/1.1\nHost: t\n\n"),
    Case("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Host and the forms of the target.
    Case("B01 no Host", get()),
    Case("B02 two Hosts", get(H, H)),
    Case("B03 two different Hosts", get(H, b"Host: evil\r\n")),
    Case("empty Host", get(b"Host: \r\n")),
    Case("B05 space in Host", get(b"Host: a b\r\n")),
    Case("slash in Host", get(b"Host: t/x\r\n")),
    Case("user in Host", get(b"Host: u@t\r\n")),
    Case("comma in Host", get(b"Host: t,evil\r\n")),
    Case("port too high", get(b"Host: t:98777\r\n")),
    Case("B09 port not a number", get(b"Host: t:8a\r\n")),
    Case("open bracket", get(b"Host: [::1\r\n")),
    Case("empty label", get(b"Host: a..b\r\n")),
    passes("B13 IPv6", get(b"Host: [::1]:80\r\n")),
    passes("spaces around Host", get(b"Host: \t t \t\r\n")),
    passes("B17 absolute form", get(H, target=b"http://t/p?q=1"), b"/p?q=1"),
    passes("absolute form, default port", get(H, target=b"http://T:80/p")),
    passes("absolute form without path", get(H, target=b"http://t"), b"/"),
    Case("absolute form of another host", get(H, target=b"http://evil/p")),
    Case("absolute form with user", get(H, target=b"http://t@evil/p")),
    Case("B21 other scheme", get(H, target=b"ftp://t/p")),
    Case("B23 GET *", get(H, target=b"*")),
    passes("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", b"*"),
    Case("B24 CONNECT", b"CONNECT t:80 HTTP/1.1\r\n" + H + b"\r\n", (405,)),
    Case("B25 CONNECT /", b"CONNECT / HTTP/1.1\r\n" + H + b"\r\n", (405,)),
    Case("B29 authority form", get(H, target=b"t:80")),
    # Field syntax.
    Case("C01 space before colon", get(H, b"X-A : 1\r\n")),
    Case("no colon", get(H, b"X-A\r\n")),
    Case("no name", get(H, b": 1\r\n")),
    Case("C05 folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", HELLO)),
    Case("first line folded", b"GET /p HTTP/1.1\r\n " + H + b"\r\n"),
    Case("NUL in value", get(H, b"X-A: a\x00b\r\n")),
    Case("C09 bare CR in value", get(H, b"X-A: a\rb\r\n")),
    Case("C13 DEL in value", get(H, b"X-A: a\x7fb\r\n")),
    passes("bytes above ASCII in a value", get(H, b"X-A: \xc3\xa9\r\n")),
    Case("C21 head ended by CR LF CR X", b"GET /p HTTP/1.1\r\n" + H + b"\rZ" + SMUGGLED),
    Case("C25 VT in name", post(b"Transfer-Encoding\x0b: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n")),
    # Content-Length.
    passes("D01 length 5", post(b"Content-Length: 5\r\n", b"hello"), body=b"hello"),
    passes("length 0", post(b"Content-Length: 0\r\n", b"")),
    passes("D17 leading zero is decimal", post(b"Content-Length: 010\r\n", b"0123456789"), body=b"0123456789"),
    Case("D05 letter", post(b"Content-Length: 5a\r\n", b"hello")),
    Case("sign", post(b"Content-Length: +5\r\n", b"hello")),
    Case("minus", post(b"Content-Length: -5\r\n", b"hello")),
    Case("underscore", post(b"Content-Length: 1_0\r\n", b"0123456789")),
    Case("hexadecimal", post(b"Content-Length: 0x5\r\n", b"hello")),
    Case("list", post(b"Content-Length: 5, 5\r\n", b"hello")),
    Case("D09 2^64 + 5", post(b"Content-Length: 18446744073709551621\r\n", b"hello")),
    Case("D13 twice the same", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello")),
    Case("twice", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!")),
    Case("D21 empty, then one", post(b"Content-Length: \r\nContent-Length: 5\r\n", b"hello")),
    passes("a field that a receiver of CGI would take for the length", post(b"Content_Length: 9\r\n", b"")),
    # Transfer-Encoding.
    Case("E01 length, then chunked", post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n")),
    Case("E03 chunked, then length", post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n")),
    Case("chunked in 1.0", b"POST /p HTTP/1.0\r\n" + H + CHUNKED + b"\r\n" + HELLO),
    Case("E06 gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", HELLO), (501,)),
    Case("E07 chunked, gzip", post(b"Transfer-Encoding: chunked, gzip\r\n", HELLO)),
    Case("two codings", post(CHUNKED + CHUNKED, HELLO)),
    Case("identity", post(b"Transfer-Encoding: identity\r\n", b"")),
    passes("E11 TAB before value", post(b"Transfer-Encoding:\tchunked\r\n", HELLO), body=b"hello"),
    passes("upper case", post(b"TRANSFER-ENCODING: CHUNKED\r\n", HELLO), body=b"hello"),
    Case("E15 0xA0 around value", post(b"Transfer-Encoding: \xa0chunked\xa0\r\n", HELLO)),
    Case("E19 empty value", post(b"Transfer-Encoding: \r\nContent-Length: 5\r\n", b"hello")),
    Case("quoted", post(b'Transfer-Encoding: "chunked"\r\n', HELLO)),
    # Chunks.
    passes("F02 extension", post(CHUNKED, b"5;a=b\r\nhello\r\n0\r\n\r\n"), body=b"hello"),
    passes("trailers", post(CHUNKED, b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), body=b"hello"),
    Case("F06 CR before semicolon", post(CHUNKED, b"2\r\r;a\r\n02\r\n41\r\n0\r\n\r\n" + SMUGGLED)),
    Case("F10 underscore", post(CHUNKED, b"5_\r\nhello\r\n0\r\n\r\n")),
    Case("0x", post(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n")),
    Case("sign of a chunk", post(CHUNKED, b"+5\r\nhello\r\n0\r\n\r\n")),
    Case("F14 leading space", post(CHUNKED, b" 5\r\nhello\r\n0\r\n\r\n")),
    Case("F18 wrong bytes behind the data", post(CHUNKED, b"5\r\nhelloXX0\r\n\r\n")),
    Case("chunk longer than its size", post(CHUNKED, b"4\r\nSEE-THIS\r\n0\r\n\r\n")),
    Case("bare LF in a chunk", post(CHUNKED, b"5\nhello\r\n0\r\n\r\n")),
    Case("2^64 chunk", post(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    Case("F26 extension of 70 000 bytes", post(CHUNKED, b"5;a=" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n")),
    Case("F33 trailers without end", post(CHUNKED, b"0\r\n" + b"X-T: 1\r\n" * 9_000 + b"\r\n")),
    Case("F30 CRLF behind the body", post(CHUNKED, HELLO) + b"\r\n" + get(H, target=b"/q"), (200, 200), False, (b"/p", b"/q")),
    # Hop by hop, upgrade, identity.
    passes("G05 an upgrade that is not taken", get(H, b"Connection: Upgrade\r\nUpgrade: foo\r\n")),
    Case(
        "a request behind an upgrade",
        get(H, b"Connection: Upgrade\r\nUpgrade: foo\r\n") + get(H, target=b"/q"),
        (200, 200),
        False,
        (b"/p", b"/q"),
    ),
    Case(
        "an upgrade with a body, and a request behind",
        post(b"Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 5\r\n", b"hello") + get(H, target=b"/q"),
        (200, 200),
        False,
        (b"/p", b"/q"),
        b"hello",
    ),
    passes("an upgrade with chunks", post(b"Connection: Upgrade\r\nUpgrade: foo\r\n" + CHUNKED, HELLO), body=b"hello"),
    passes("G09 1.0 goes on as 1.1", get(H, version=b"1.0"), closes=True),
    # Connection.
    passes("Connection: close", get(H, b"Connection: close\r\n"), closes=True),
    passes("H03 bytes behind a close", get(H, b"Connection: close\r\n") + SMUGGLED, closes=True),
    Case("H08 unknown expectation", post(b"Expect: foo\r\nContent-Length: 0\r\n", b""), (417,)),
    Case("H12 good, then bad", get(H) + b"BAD\r\n\r\n", (200, 400), True, (b"/p",)),
    Case("H16 many empty lines", b"\r\n" * 2000),
    # Limits.
    Case("C23 head too large", get(H, b"X-A: " + b"a" * 40_000 + b"\r\n"), (431,)),
    Case("1 MiB of head", get(H, b"X-A: " + b"a" * 1_048_576 + b"\r\n"), (431,)),
    Case("C24 too many fields", get(H, b"X-A: 1\r\n" * 200), (431,)),
    passes("100 fields", get(H, b"X-A: 1\r\n" * 99)),
    Case("I01 target too long", get(H, target=b"/" + b"a" * 9_000), (414,)),
    Case("target longer than any head", get(H, target=b"/" + b"a" * 70_000), (414,)),
    passes("target of 8000", get(H, target=b"/" + b"a" * 7_999), b"/" + b"a" * 7_999),
]

DIRTY = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00|\r\n[ \t]|\r\n[^:\r\n]*[ \t]:|\r\n[^:\r\n]+\r\n")


def record(side: UpstreamSide) -> None:
    """Reads strictly, keeps paths and bodies, answers 200."""
    while head := side.head():
        path = head.split(b" ")[1]
        if b"\r\nTransfer-Encoding: chunked\r\n" in head:
            body = unchunk(side)
        else:
            length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
            body = side.body(int(length[1])) if length else b""
        side.requests.append((head, path, body))
        side.send(ok(path))


def unchunk(side: UpstreamSide) -> bytes:
    body = b""
    while True:
        line = side.until(b"\r\n")
        if not line.endswith(b"\r\n"):
            raise ConnectionError("cut")
        data = side.body(int(line, 16) + 2)
        if line == b"0\r\n":
            return body
        body += data[:-2]


@pytest.fixture(scope="module")
def recorder() -> Iterator[tuple[LiveGateway, ScriptedUpstream]]:
    with upstream(record) as server, live_gateway() as live:
        live.route(route_to(server.port))
        yield live, server


@pytest.mark.parametrize("split", ["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(recorder: tuple[LiveGateway, ScriptedUpstream], case: Case, split: str) -> None:
    live, server = recorder
    if split == "bytewise" and len(case.data) > 600:
        split = "pieces"
    before = [len(side.requests) for side in server.connections]
    with client(live.port) as raw:
        send(raw, case.data, split)
        answers = [raw.response().status for _ in case.answers]
        assert tuple(answers) == case.answers
        if case.closes:
            assert raw.closes_within(2)
    before += [0] * (len(server.connections) - len(before))
    new = [request for side, seen in zip(server.connections, before, strict=True) for request in side.requests[seen:]]
    assert tuple(path for _, path, _ in new) == case.seen
    if case.body is not None:
        assert new[0][2] == case.body
    for head, _, _ in new:
        assert_clean(head)
    assert b"smuggled" not in server.received


def send(raw: RawClient, data: bytes, split: str) -> None:
    step = {"whole": len(data), "bytewise": 1, "pieces": 1000}[split]
    try:
        for start in range(0, len(data), step):
            raw.send(data[start : start + step])
    except ConnectionError:
        # Refused before everything was sent; the answer is there to be read.
        pass


def assert_clean(head: bytes) -> None:
    assert DIRTY.search(head) is None, head
    lower = head.lower()
    assert lower.count(b"\r\nhost:") == 1
    lengths, codings = lower.count(b"\r\ncontent-length:"), lower.count(b"\r\ntransfer-encoding:")
    assert lengths + codings <= 1
    assert head.split(b"\r\n")[0].endswith(b" HTTP/1.1")
    for name in (b"connection", b"upgrade", b"keep-alive", b"te", b"trailer", b"proxy-connection", b"expect"):
        assert b"\r\n%b:" % name not in lower


IDENTITY = [
    (b"Connection: X-Foo\r\nX-Foo: 1\r\n", rb"x-foo"),
    (b"Connection: close, X-Foo\r\nX-Foo: 1\r\n", rb"x-foo"),
    (b"Keep-Alive: 300\r\n", rb"keep-alive"),
    (b"TE: trailers, gzip\r\n", rb"\nte:"),
    (b"Proxy-Connection: keep-alive\r\n", rb"proxy-connection"),
    (b"Proxy: http://evil\r\n", rb"evil"),
    (b"X-Real-IP: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X_Real_IP: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X_Forwarded_For: 6.6.6.6\r\n", rb"6\.6\.6\.6"),
    (b"X-Forwarded-Host: evil\r\n", rb"evil"),
    (b"X_Real_User: root\r\n", rb"x-real-user"),
    (b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 6.6.6.6\r\n", rb"x-forwarded-for: 6\.6\.6\.6\r"),
]


@pytest.mark.parametrize(("fields", "absent"), IDENTITY, ids=[fields.decode() for fields, _ in IDENTITY])
def test_what_must_not_pass(recorder: tuple[LiveGateway, ScriptedUpstream], fields: bytes, absent: bytes) -> None:
    live, server = recorder
    with client(live.port) as raw:
        raw.send(get(H, fields, b"X-End: 1\r\n", target=b"/identity"))
        assert raw.response().status == 200
    head = [head for side in server.connections for head, path, _ in side.requests if path == b"/identity"][-1]
    assert re.search(absent, head.lower()) is None
    assert b"X-End: 1\r\n" in head
    assert b"127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n" in head
    assert_clean(head)


def test_forwarded_for_is_appended_to(recorder: tuple[LiveGateway, ScriptedUpstream]) -> None:
    live, server = recorder
    with client(live.port) as raw:
        raw.get(b"/xff", b"X-Forwarded-For: 1.1.1.1, 2.2.2.2", b"x-forwarded-for: 3.3.3.3")
    head = next(head for side in server.connections for head, path, _ in side.requests if path == b"/xff")
    assert b"\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1\r\n" in head
