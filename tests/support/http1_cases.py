"""Raw requests by section of RFC 9110 and 9112: what is answered, and what reaches the upstream.

The law of every case: the upstream sees no more requests than the client sent, never `/smuggled`, and never a dirty head.
"""

from __future__ import annotations

from dataclasses import dataclass

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


BAD_VERSIONS = ("http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP /1.1", "HTTPS/1.1", "HTTP/1.1x", "HTTP/1,1", "HTTP/1", "RTSP/1.0")
BAD_BYTES = {"NUL": b"\0", "TAB": b"\t", "VT": b"\v", "DEL": b"\x7f", "a byte above ASCII": b"\xe9", "backslash": b"\\"}
BAD_NAME_BYTES = {
    "NUL": b"\0",
    "space": b" ",
    "DEL": b"\x7f",
    "a byte above ASCII": b"\xe9",
    "quote": b'"',
    "brace": b"{",
    "CR": b"\r",
}
BAD_HOSTS = (
    *(
        b":80",
        b"t:",
        b"t:65536",
        b"t:+80",
        b"t:-1",
        b".t",
        b"t..",
        b"%74",
        b"::1",
        b"[::g]",
        b"[1.2.3.4]",
        b"[v1.a]",
        b"[::1%25e]",
    ),
    *(b"a?b", b"a#b", b"a\\b", b"*", b"(t)", b"t;u", b"http://t", b"t\xe9", b"t\x7f"),
)
GOOD_HOSTS = (b"[::1]", b"t.", b"T", b"a_b", b"-t", b"xn--e1aybc", b"1.2.3.4:0", b"t:65535", b"t:080")
BAD_TARGETS = (
    *(b"p", b"?q", b"#", b"./p", b"http:/t/p", b"http:///p", b"http://", b"http://t/p#f", b"http://t\\@evil/p", b"http://t:/p"),
    *(
        b"ws://t/p",
        b"javascript:1",
        b"t/p",
        b"/p?a#b",
        b"/..",
        b"/a/../../b",
        b"/%00",
        b"/%",
        b"/%2",
        b"/a%2f..%2fb",
        b"/..;/a",
    ),
)
BAD_LENGTHS = (b"5;", b"5.0", b'"5"', b"5 5", b"5\0", b"\v5", b"5,5", b"")
BAD_CODINGS = (
    b"xchunked",
    b"chunked;q=1",
    b"chunked,",
    b"chunked, chunked",
    b"\vchunked",
    b"deflate",
    b"trailers",
    b"chunked\0",
)
# Each is followed by an empty line and another request.
BAD_CHUNKS = (
    *(b"5 \r\nhello\r\n0", b"5\t\r\nhello\r\n0", b"5\v\r\nhello\r\n0", b"g\r\nhello\r\n0", b"5hello\r\n0", b"5\r\nhello0"),
    *(b"5\r\nhello\n0", b"5\r\nhello\r0", b"5\r\rhello\r\n0", b"\r\n5\r\nhello\r\n0", b"5\r\nhello\r\n-0", b"5;\r\nhello\r\n0"),
    *(b'5;a="\r\n"\r\nhello\r\n0', b"5;a=\n\r\nhello\r\n0", b"5;\0\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n\n"),
    *(b"5\r\nhello\r\n0\r\nA: b\r\n c", b"5\r\nhello\r\n0\r\nAb", b"5\r\nhello\r\n0\r\nA : b", b"5\r\nhello\r\n0\r\nA: b\n"),
    *(b"5\r\nhello\r\n0\r\nContent-Length: 3", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked"),
)
GOOD_CHUNKS = (
    *(b"0005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n000\r\n\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    *(b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b'5;a="b;\\"c"\r\nhello\r\n0\r\n\r\n'),
)

CASES = [
    # RFC 9112, section 3: the request line.
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
    *(Case(f"version {word}", b"GET /p %b\r\n%b\r\n" % (word.encode(), H)) for word in BAD_VERSIONS),
    *(Case(f"{name} in the target", get(H, target=b"/p" + byte + b"q")) for name, byte in BAD_BYTES.items()),
    Case("space in the target", get(H, target=b"/a b")),
    Case("no target", b"GET HTTP/1.1\r\n" + H + b"\r\n"),
    Case("space before the method", b" GET /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("LF before the method", b"\nGET /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("CR before the method", b"\rGET /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("a method that nobody knows", b"FOO /p HTTP/1.1\r\n" + H + b"\r\n"),
    Case("LF behind the request line", b"GET /p HTTP/1.1\n" + H + b"\r\n"),
    passes("a method of WebDAV", b"PROPFIND /p HTTP/1.1\r\n" + H + b"\r\n"),
    passes(
        "bytes that a path escapes", get(H, target=b'/p"<>^`{|}?a="<>^`{|}[]\\'), b'/p%22%3C%3E%5E%60%7B%7C%7D?a="<>^`{|}[]\\'
    ),
    Case("bare LF throughout", b"GET /p HTTP/1.1\nHost: t\n\n"),
    Case("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Section 3.2: the forms of the target, and Host.
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
    *(Case(f"Host {host!r}", get(b"Host: " + host + b"\r\n")) for host in BAD_HOSTS),
    *(passes(f"Host {host!r} ", get(b"Host: " + host + b"\r\n")) for host in GOOD_HOSTS),
    *(Case(f"target {target!r}", get(H, target=target)) for target in BAD_TARGETS),
    passes("absolute form in other case", get(b"Host: T:80\r\n", target=b"HTTP://t/p")),
    passes("absolute form with a query only", get(H, target=b"http://t?q"), b"/?q"),
    passes("OPTIONS of an absolute form without path", b"OPTIONS http://t HTTP/1.1\r\n" + H + b"\r\n", b"*"),
    passes("two slashes first are a path", get(H, target=b"//t/p"), b"/t/p"),
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
    Case("TRACE", b"TRACE /p HTTP/1.1\r\n" + H + b"\r\n", (405,)),
    Case("B29 authority form", get(H, target=b"t:80")),
    # Section 5: field lines.
    Case("C01 space before colon", get(H, b"X-A : 1\r\n")),
    Case("no colon", get(H, b"X-A\r\n")),
    Case("no name", get(H, b": 1\r\n")),
    *(Case(f"{name} in a name", get(H, b"X" + byte + b"A: 1\r\n")) for name, byte in BAD_NAME_BYTES.items()),
    Case("LF behind a field", b"GET /p HTTP/1.1\r\nHost: t\n\r\n"),
    Case("LF for the empty line", b"GET /p HTTP/1.1\r\nHost: t\r\n\n"),
    Case("CR CR LF", b"GET /p HTTP/1.1\r\nHost: t\r\r\n\r\n"),
    Case("folded value", get(H, b"X-A: 1\r\n two\r\n")),
    Case("folded with TAB", get(H, b"X-A: 1\r\n\tTransfer-Encoding: chunked\r\n")),
    passes("an empty value", get(H, b"X-A:\r\n")),
    passes("no space behind the colon", get(b"Host:t\r\n")),
    Case("C05 folded coding", post(b"Transfer-Encoding:\r\n chunked\r\n", HELLO)),
    Case("first line folded", b"GET /p HTTP/1.1\r\n " + H + b"\r\n"),
    Case("NUL in value", get(H, b"X-A: a\x00b\r\n")),
    Case("C09 bare CR in value", get(H, b"X-A: a\rb\r\n")),
    Case("C13 DEL in value", get(H, b"X-A: a\x7fb\r\n")),
    passes("bytes above ASCII in a value", get(H, b"X-A: \xc3\xa9\r\n")),
    Case("C21 head ended by CR LF CR X", b"GET /p HTTP/1.1\r\n" + H + b"\rZ" + SMUGGLED),
    Case("C25 VT in name", post(b"Transfer-Encoding\x0b: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n")),
    # Section 6.2: Content-Length.
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
    *(Case(f"length {value!r}", post(b"Content-Length: " + value + b"\r\n", b"hello")) for value in BAD_LENGTHS),
    Case("folded length", post(b"Content-Length: 5\r\n 6\r\n", b"hello")),
    Case("length of 20 digits", post(b"Content-Length: 00000000000000000005\r\n", b"hello")),
    passes("spaces around a length", post(b"Content-Length: \t5 \r\n", b"hello"), body=b"hello"),
    passes("a GET with a body", get(H, b"Content-Length: 5\r\n") + b"hello", body=b"hello"),
    passes("a field that a receiver of CGI would take for the length", post(b"Content_Length: 9\r\n", b"")),
    # Section 6.1: Transfer-Encoding.
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
    *(Case(f"coding {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n", HELLO)) for value in BAD_CODINGS),
    Case("an empty element", post(b"Transfer-Encoding: ,chunked\r\n", HELLO), (501,)),
    Case("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", HELLO)),
    Case("chunked, then identity", post(CHUNKED + b"Transfer-Encoding: identity\r\n", HELLO)),
    Case("a coding that a receiver of CGI would see", post(b"Transfer_Encoding: chunked\r\n", b""), (200,), False, (b"/p",)),
    # Section 7.1: chunks.
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
    *(Case(f"chunks {body!r}", post(CHUNKED, body + b"\r\n\r\n" + SMUGGLED)) for body in BAD_CHUNKS),
    *(passes(f"good chunks {body!r}", post(CHUNKED, body), body=b"hello") for body in GOOD_CHUNKS),
    passes("size in upper case", post(CHUNKED, b"A\r\n0123456789\r\n0\r\n\r\n"), body=b"0123456789"),
    passes("fields of the head among the trailers", post(CHUNKED, b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n"), body=b"hello"),
    Case("F26 extension of 70 000 bytes", post(CHUNKED, b"5;a=" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n")),
    Case("F33 trailers without end", post(CHUNKED, b"0\r\n" + b"X-T: 1\r\n" * 9_000 + b"\r\n")),
    Case("F30 CRLF behind the body", post(CHUNKED, HELLO) + b"\r\n" + get(H, target=b"/q"), (200, 200), False, (b"/p", b"/q")),
    # RFC 9110, section 7: hop by hop, upgrade, Max-Forwards.
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
    Case("OPTIONS that may go no further", b"OPTIONS * HTTP/1.1\r\n" + H + b"Max-Forwards: 0\r\n\r\n", (200,)),
    passes("Max-Forwards of a GET", get(H, b"Max-Forwards: 0\r\n")),
    # RFC 9112, section 9, and RFC 9110, section 10.1.1: connections, Expect.
    passes("Connection: close", get(H, b"Connection: close\r\n"), closes=True),
    passes("H03 bytes behind a close", get(H, b"Connection: close\r\n") + SMUGGLED, closes=True),
    Case("H08 unknown expectation", post(b"Expect: foo\r\nContent-Length: 0\r\n", b""), (417,)),
    Case("two expectations", post(b"Expect: 100-continue, foo\r\nContent-Length: 0\r\n", b""), (417,)),
    passes("an expectation without a body", get(H, b"Expect: 100-continue\r\n")),
    passes("an expectation of 1.0", b"POST /p HTTP/1.0\r\nExpect: foo\r\nContent-Length: 2\r\n\r\nab", body=b"ab", closes=True),
    passes("1.0 without Host", b"GET /p HTTP/1.0\r\n\r\n", closes=True),
    passes("1.0 that stays", get(H, b"Connection: Keep-Alive\r\n", version=b"1.0")),
    passes("close among others", get(H, b"Connection: keep-alive, Close\r\n"), closes=True),
    passes("close in a second line", get(H, b"Connection: keep-alive\r\nConnection: close\r\n"), closes=True),
    passes("Connection may not take Host away", get(H, b"Connection: Host, Content-Length\r\n")),
    Case("three at once", get(H) + post(CHUNKED, HELLO) + get(H, target=b"/q"), (200, 200, 200), False, (b"/p", b"/p", b"/q")),
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
