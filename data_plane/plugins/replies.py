"""Local replies as the chain hands them to the exchange."""

from __future__ import annotations

from dataclasses import replace

from data_plane.plugins.interface import LocalReply
from shared.plugin.program import ErrorResponse
from shared.plugin.reply import json_body
from shared.proxy_wasm import replies
from shared.proxy_wasm.outcome import SentReply

PLUGIN_FAILED = LocalReply(*replies.PLUGIN_FAILED)
# By direction.
HEAD_TOO_LARGE = tuple(LocalReply(*reply) for reply in replies.HEAD_TOO_LARGE)
BODY_TOO_LARGE = tuple(LocalReply(*reply) for reply in replies.BODY_TOO_LARGE)
HEAD_INCOMPLETE = LocalReply(*replies.HEAD_INCOMPLETE)


def told_instead(reply: LocalReply, error_response: ErrorResponse | None) -> LocalReply:
    """The reply with what `_meta.error_response` says in the place of its body, if it is an error."""
    if error_response is None or reply.status < 400:
        return reply
    is_text = isinstance(error_response, str)
    body = error_response.encode() if isinstance(error_response, str) else json_body(error_response)
    kind = b"text/plain; charset=utf-8" if is_text else b"application/json"
    fields = tuple(field for field in reply.fields if field[0].lower() != b"content-type")
    return replace(reply, body=body, fields=((b"content-type", kind), *fields))


def reply_as_sent(sent: SentReply) -> LocalReply:
    return LocalReply(*replies.wire_reply(sent))
