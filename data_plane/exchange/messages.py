"""The heads of one exchange as the state machine sees them: already validated, never raw.

The law: a value here has one meaning. An open head (see plugins/interface.py) holds end-to-end fields only, so nothing that a
receiver could take for framing is in it; `framing` is the one framing line, in the form in which it may be sent on.
"""

from __future__ import annotations

CHUNKED = -1
UNTIL_CLOSE = -2


class RequestHead:
    """A request as the client meant it.

    `path` is normalised, and is what the target in `open` says: what is routed is what is forwarded. `authority` is the Host
    as sent, `host` its name in lower case without port; both are empty for HTTP/1.0 without Host. `length` is that of the
    body, 0 for none, or CHUNKED; `forwarded_for` is the X-Forwarded-For that came with it.
    """

    __slots__ = (
        "authority",
        "expects_continue",
        "forwarded_for",
        "framing",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor_version",
        "open",
        "path",
    )

    def __init__(self, method: bytes, path: bytes, authority: bytes, host: bytes, minor_version: int, opened: bytes) -> None:
        self.method = method
        self.path = path
        self.authority = authority
        self.host = host
        self.minor_version = minor_version
        self.open = opened
        self.keep_alive = minor_version == 1
        self.length = 0
        self.framing = b""
        self.forwarded_for = b""
        self.expects_continue = False

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.path!r} host={self.authority!r} length={self.length}>"


class ResponseHead:
    """A response of an upstream. `length` is as declared, or CHUNKED or UNTIL_CLOSE, whether or not the response has a body."""

    __slots__ = ("framing", "keep_alive", "length", "open", "status")

    def __init__(self, status: int, opened: bytes, length: int, framing: bytes, keep_alive: bool) -> None:
        self.status = status
        self.open = opened
        self.length = length
        self.framing = framing
        self.keep_alive = keep_alive

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} keep_alive={self.keep_alive}>"
