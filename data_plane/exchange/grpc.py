"""What the gateway itself says to a gRPC client: an answer of gRPC, not one of HTTP.

The law: a gRPC client reads `grpc-status` and nothing else (gRPC over HTTP/2, Responses), so the gateway's own replies to it
are trailers-only: status 200, no body, the HTTP status by Envoy's table, the text as message.
"""

from __future__ import annotations

import re

from data_plane.exchange.framing import length_line
from data_plane.exchange.messages import UNTIL_CLOSE, RequestHead

# gRPC's http-grpc-status-mapping; the rest is UNKNOWN.
OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
UNKNOWN = 2
# A status that takes long to say helps nobody, and is a field.
_MESSAGE_BYTES = 1024
_OWN_TEXT = re.compile(rb'\{"error_msg":"([^"\\]*)"\}\s*')
_STATUS_LINE = re.compile(rb"(?i)\r\ngrpc-status:")
_REPLACED = re.compile(rb"(?i)content-type:[^\r]*\r\n")
_CONTENT_TYPE = re.compile(rb"(?i)\r\ncontent-type:[ \t]*([^\r]*)")


def content_type(head: bytes) -> bytes:
    """Of an open head; empty when it has none."""
    found = _CONTENT_TYPE.search(head)
    return b"" if found is None else found[1]


def is_grpc(content_type: bytes) -> bool:
    """`application/grpc`, perhaps with the format of its messages; not gRPC-Web, whose status is in the body."""
    if not content_type.startswith(b"application/grpc"):
        return False
    return content_type[16:17] in (b"", b"+", b";", b" ")


def local_response(request: RequestHead, head: bytes, body: bytes) -> tuple[bytes, int, bytes, bytes]:
    """A reply that was made here as its client understands it: (open head, length, framing line, body)."""
    if request.fields.minor_version == 2 and is_grpc(content_type(request.open)):
        return trailers_only(head, body), UNTIL_CLOSE, b"", b""
    return head, len(body), length_line(len(body)), body


def trailers_only(head: bytes, body: bytes) -> bytes:
    """The open head that says to a gRPC client what this reply says to another."""
    if _STATUS_LINE.search(head) is not None:
        return head
    _, _, lines = head.partition(b"\r\n")
    status = OF_HTTP.get(int(head[9:12]), UNKNOWN)
    own = _OWN_TEXT.fullmatch(body)
    message = _encoded(body[:_MESSAGE_BYTES].strip() if own is None else own[1])
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: %d\r\n%b%b" % (
        status,
        b"grpc-message: %b\r\n" % message if message else b"",
        _REPLACED.sub(b"", lines),
    )


def _encoded(message: bytes) -> bytes:
    """Printable ASCII but `%` stands for itself (gRPC over HTTP/2, Status-Message)."""
    return b"".join(bytes((c,)) if 32 <= c <= 126 and c != 37 else b"%%%02X" % c for c in message)
