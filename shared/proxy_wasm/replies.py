"""A local response as it goes to the client."""

from __future__ import annotations

from shared.proxy_wasm.outcome import SentReply
from shared.proxy_wasm.pairs import Pairs

_TEXT = (b"content-type", b"text/plain")


def wire_reply(sent: SentReply) -> tuple[int, bytes, Pairs]:
    """(status, body, fields). A body without a type is plain text, as in Envoy. A gRPC client gets a trailers-only answer (gRPC
    over HTTP/2, responses): status 200, the message in a field.
    """
    if sent.grpc_status is None:
        typed = not sent.body or any(name.lower() == b"content-type" for name, _ in sent.fields)
        return sent.status, sent.body, sent.fields if typed else (_TEXT, *sent.fields)
    fields = (
        *((name, value) for name, value in sent.fields if name.lower() != b"content-type"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % sent.grpc_status),
        (b"grpc-message", _percent_encoded(sent.body)),
    )
    return 200, b"", fields


def _percent_encoded(message: bytes) -> bytes:
    """Printable ASCII but `%` stands for itself (gRPC over HTTP/2, Status-Message)."""
    return b"".join(bytes((c,)) if 32 <= c <= 126 and c != 37 else b"%%%02X" % c for c in message)
