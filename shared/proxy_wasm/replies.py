"""Local responses as they go to the client: a plugin's own, and those for what a plugin cannot take or has made unusable."""

from __future__ import annotations

from typing import NamedTuple

from shared.proxy_wasm.outcome import SentReply
from shared.proxy_wasm.pairs import Pairs

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain")


class WireReply(NamedTuple):
    status: int
    body: bytes
    fields: Pairs
    details: str


def _error(status: int, message: str, details: str) -> WireReply:
    return WireReply(status, f'{{"error_msg":"{message}"}}\n'.encode(), (_JSON,), details)


PLUGIN_FAILED = _error(503, "a plugin of this route failed", "wasm_fail_stream")
# A head or body that a plugin cannot take, or a head that it left without what a message must have; by direction.
HEAD_TOO_LARGE = (
    _error(431, "request fields too large for a plugin", "wasm_head_too_large"),
    _error(502, "response fields too large for a plugin", "wasm_head_too_large"),
)
BODY_TOO_LARGE = (
    _error(413, "request body larger than a plugin of this route holds", "wasm_body_too_large"),
    _error(500, "response body larger than a plugin of this route holds", "wasm_body_too_large"),
)
HEAD_INCOMPLETE = _error(500, "a plugin of this route removed a pseudo-header", "wasm_incomplete_head")


def wire_reply(sent: SentReply) -> WireReply:
    """A body without a type is plain text, as in Envoy. A gRPC client gets a trailers-only answer (gRPC
    over HTTP/2, responses): status 200, the message in a field.
    """
    if sent.grpc_status is None:
        typed = not sent.body or any(name.lower() == b"content-type" for name, _ in sent.fields)
        return WireReply(sent.status, sent.body, sent.fields if typed else (_TEXT, *sent.fields), sent.details)
    fields = (
        *((name, value) for name, value in sent.fields if name.lower() != b"content-type"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % sent.grpc_status),
        (b"grpc-message", _percent_encoded(sent.body)),
    )
    return WireReply(200, b"", fields, sent.details)


def _percent_encoded(message: bytes) -> bytes:
    """Printable ASCII but `%` stands for itself (gRPC over HTTP/2, Status-Message)."""
    return b"".join(bytes((c,)) if 32 <= c <= 126 and c != 37 else b"%%%02X" % c for c in message)
