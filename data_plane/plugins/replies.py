"""Local replies: those that the chain makes itself, and a plugin's own as the exchange takes it."""

from __future__ import annotations

from data_plane.plugins.interface import LocalReply
from shared.proxy_wasm.outcome import SentReply
from shared.proxy_wasm.replies import wire_reply

_JSON = (b"content-type", b"application/json")


def _error(status: int, message: str, details: str) -> LocalReply:
    return LocalReply(status, f'{{"error_msg":"{message}"}}\n'.encode(), (_JSON,), details)


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


def reply_as_sent(sent: SentReply) -> LocalReply:
    return LocalReply(*wire_reply(sent), sent.details)
