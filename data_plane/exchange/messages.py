"""The heads of one exchange as the state machine sees them: already validated, never raw.

The law: a value here has one meaning. `length` is the body's length when it is known, else one of the two negative kinds;
`fields` are end-to-end field lines only, so nothing that a receiver could take for framing is ever among them.
"""

from __future__ import annotations

CHUNKED = -1
UNTIL_CLOSE = -2


class RequestHead:
    """A request as the client meant it.

    `target` is in origin form (or `*`) with the path normalised, `path` is its part before the query: what is routed is what
    is forwarded. `framing` is the framing line that it came with, or empty. `authority` is the Host as sent, `host` its name in lower case without port; both are empty for HTTP/1.0
    without Host. `fields` begins and ends with CR LF: what follows the Host line of an open head.
    """

    __slots__ = (
        "authority",
        "expects_continue",
        "fields",
        "forwarded_for",
        "framing",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor_version",
        "path",
        "target",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        path: bytes,
        authority: bytes,
        host: bytes,
        minor_version: int,
        fields: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.authority = authority
        self.host = host
        self.minor_version = minor_version
        self.fields = fields
        self.keep_alive = minor_version == 1
        self.length = 0
        self.framing = b""
        self.forwarded_for = b""
        self.expects_continue = False

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} host={self.authority!r} length={self.length}>"


class ResponseHead:
    """A final response of an upstream. `open` is its open head; `length` is as declared, whether or not a body may follow."""

    __slots__ = ("keep_alive", "length", "open", "status")

    def __init__(self, status: int, open_head: bytes, length: int, keep_alive: bool) -> None:
        self.status = status
        self.open = open_head
        self.length = length
        self.keep_alive = keep_alive

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} keep_alive={self.keep_alive}>"
