"""How a connection over TLS has ended: by the peer's word, or by whoever cut it.

The law: a body that ends with its connection is complete only when the peer said so in TLS, since anybody on the way can end a
connection of TCP (RFC 9112 9.8).
"""

from __future__ import annotations

import ssl


def has_said_so(secured: ssl.SSLObject | None) -> bool:
    """To be asked once the connection has ended. True without TLS, where there is no such word."""
    if secured is None:
        return True
    try:
        return secured.read(1) == b""
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:
        return False
