"""Local replies as the chain hands them to the exchange."""

from __future__ import annotations

from data_plane.plugins.interface import LocalReply
from shared.proxy_wasm import replies
from shared.proxy_wasm.outcome import SentReply

PLUGIN_FAILED = LocalReply(*replies.PLUGIN_FAILED)
# By direction.
HEAD_TOO_LARGE = tuple(LocalReply(*reply) for reply in replies.HEAD_TOO_LARGE)
BODY_TOO_LARGE = tuple(LocalReply(*reply) for reply in replies.BODY_TOO_LARGE)
HEAD_INCOMPLETE = LocalReply(*replies.HEAD_INCOMPLETE)


def reply_as_sent(sent: SentReply) -> LocalReply:
    return LocalReply(*replies.wire_reply(sent))
