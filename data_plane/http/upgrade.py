"""Whether a head speaks of WebSocket, beyond what llhttp has seen in it.

The law: llhttp has found `Upgrade` and `Connection: upgrade`; only `websocket` alone, named once, is taken for an offer or for
its acceptance. Every other protocol would let a client speak to the upstream past the gateway (h2c most of all).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade

if TYPE_CHECKING:
    from httptools import HttpResponseParser

    from data_plane.exchange.messages import RequestHead

_UPGRADE = re.compile(rb"\r\nUpgrade:[ \t]*([^\r]*)", re.IGNORECASE)


def names_websocket(head: bytes) -> bool:
    """`head` is raw, as llhttp has accepted it."""
    return [value.rstrip(b" \t").lower() for value in _UPGRADE.findall(head)] == [b"websocket"]


def offers_websocket(request: RequestHead, head: bytes) -> bool:
    """RFC 6455, section 4.1: a GET in HTTP/1.1."""
    fields = request.fields
    return request.method == b"GET" and fields.minor_version == 1 and not fields.length and names_websocket(head)


def accepts_websocket(parser: HttpResponseParser, head: bytes, fed: int) -> bool:
    """Whether a 101, of which the parser has seen so many bytes, takes the offer: no other is an answer to it."""
    try:
        parser.feed_data(head[fed:])
    except HttpParserUpgrade:
        return names_websocket(head)
    except HttpParserError:
        pass
    return False
