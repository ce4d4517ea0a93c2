"""An upstream that reads strictly, and what every request that reaches it must be like."""

from __future__ import annotations

import re

from tests.support.gateway import UpstreamSide, ok

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


def assert_clean(head: bytes) -> None:
    assert DIRTY.search(head) is None, head
    lower = head.lower()
    assert lower.count(b"\r\nhost:") == 1
    lengths, codings = lower.count(b"\r\ncontent-length:"), lower.count(b"\r\ntransfer-encoding:")
    assert lengths + codings <= 1
    assert head.split(b"\r\n")[0].endswith(b" HTTP/1.1")
    for name in (b"connection", b"upgrade", b"keep-alive", b"te", b"trailer", b"proxy-connection", b"expect"):
        assert b"\r\n%b:" % name not in lower
