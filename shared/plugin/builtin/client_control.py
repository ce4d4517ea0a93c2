"""client-control: how large a request's body may be on this route.

The law: a body that says that it is larger is refused before anything is sent; one in chunks when it has become larger.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import MAX_INT, Maybe, Spec

TOO_LARGE = Reply(413, {"error_msg": "request body too large"})


class ClientControlConfig(Spec):
    """Bytes; 0: as much as comes."""

    max_body_size: Maybe[Annotated[int, Field(ge=0, le=MAX_INT)]] = None


class ClientControl(Plugin[ClientControlConfig]):
    name = "client-control"
    priority = 22000
    Config = ClientControlConfig

    def rewrite(self, request: Request) -> Reply | None:
        most = self.config.max_body_size
        if not most:
            return None
        length = request.content_length
        if length is None:
            request.limit_body(most)
        elif length > most:
            return TOO_LARGE
        return None
