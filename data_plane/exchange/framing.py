"""How the messages that the gateway sends are framed: the only place that decides it.

The law: at most one framing field, and it is true. A length is sent when it is known before the head leaves, else chunks, else
(for an HTTP/1.0 client) the end of the connection.
"""

from __future__ import annotations

import re

CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"
CHUNK_END = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
# Bytes of a piece that cost more to copy than two more writes do.
LARGE = 16384
# Final statuses of responses that end with their head, whatever their fields say.
BODILESS = frozenset({204, 304})
CLOSE_LINE = b"Connection: close\r\n"
KEEP_ALIVE_LINE = b"Connection: keep-alive\r\n"

_HOST_LINE = re.compile(rb"\r\nHost:[^\r]*", re.IGNORECASE)


def length_line(length: int) -> bytes:
    return b"Content-Length: %d\r\n" % length


def chunk(data: bytes, eos: bool) -> bytes:
    """The data as one chunk, and the last chunk when it is the end; an empty piece makes none, since that would be the end."""
    if not data:
        return LAST_CHUNK if eos else b""
    if eos:
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk_line(data: bytes) -> bytes:
    """What stands before the data of a chunk; CHUNK_END stands behind."""
    return b"%x\r\n" % len(data)


def last_chunk(trailers: bytes) -> bytes:
    """The end of the chunks, with field lines behind it."""
    return b"0\r\n%b\r\n" % trailers


def has_body(method: bytes, status: int) -> bool:
    """Whether a final response to this method with this status has a body at all (RFC 9112 section 6.3)."""
    return method != b"HEAD" and status not in BODILESS


def with_host(head: bytes, authority: bytes) -> bytes:
    """The open head with this Host, in place of the one that it has or as the first field."""
    line = b"\r\nHost: " + authority
    replaced, count = _HOST_LINE.subn(lambda _: line, head, count=1)
    return replaced if count else head.replace(b"\r\n", line + b"\r\n", 1)
