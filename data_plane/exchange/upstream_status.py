"""`X-APISIX-Upstream-Status`: a field that tells an upstream's error from one of the gateway, as in APISIX.

The law: a response has it once when its status is an upstream's 5xx, or stands for an upstream that gave none; with
`show_upstream_status_in_response_header` every response of an upstream has it.
"""

from __future__ import annotations

import re

_LINE = re.compile(rb"(?i)\r\nx-apisix-upstream-status:[^\r]*")
_shown_from = 500


def show_all() -> None:
    """For this process, before it serves."""
    global _shown_from
    _shown_from = 200


def upstream_status_line(status: int) -> bytes:
    """Its line, from CR LF on; empty for a response that does not say it."""
    return b"\r\nX-APISIX-Upstream-Status: %d" % status if _shown_from <= status <= 599 else b""


def without_upstream_status(lines: bytes) -> bytes:
    """Field lines, each from its CR LF on, without that of another gateway."""
    return _LINE.sub(b"", lines)
