"""What a native plugin is written with: everything that a package outside of this project needs stands here."""

from __future__ import annotations

from shared.plugin.consumer import Consumer, ConsumerTable
from shared.plugin.host import Fetched, FetchFailed, Host
from shared.plugin.plugin import Answer, Phase, Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request, Response
from shared.schema.common import Spec

__all__ = [
    "Answer",
    "Consumer",
    "ConsumerTable",
    "FetchFailed",
    "Fetched",
    "Host",
    "Phase",
    "Plugin",
    "Reply",
    "Request",
    "Response",
    "Spec",
]
