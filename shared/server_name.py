"""What an `sni` means: the text of the configuration turned into what a TLS listener looks up.

The law: a wildcard stands for one label, as in certificates; a pattern that no client could ask for is refused with a reason.

    foo.com       exactly this name
    *.foo.com     a.foo.com, but neither foo.com nor a.b.foo.com
    *             every name, and clients that name none
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(\*\.)?([0-9a-zA-Z_-]{1,63}(?:\.[0-9a-zA-Z_-]{1,63})*)\.?")
_LONGEST = 253
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class ServerNamePattern:
    """`name` in lower case without a final dot; a wildcard's is what stands behind its first dot, empty for every name."""

    name: bytes
    wildcard: bool


EVERY_NAME = ServerNamePattern(b"", wildcard=True)


def parse_server_name(text: str) -> ServerNamePattern:
    """Raises ValueError with the reason."""
    if text == "*":
        return EVERY_NAME
    match = _NAME.fullmatch(text)
    if match is None or len(text) > _LONGEST:
        raise ValueError(f'invalid server name "{text[:_SHOWN]}": expected a name such as foo.com, *.foo.com or *')
    return ServerNamePattern(match[2].lower().encode(), wildcard=match[1] is not None)
