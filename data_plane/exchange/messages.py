"""The heads of one exchange as the state machine sees them: already validated, never raw.

The law: a value here has one meaning. An open head (see plugins/interface.py) holds end-to-end fields only, so nothing that a
receiver could take for framing is in it; `framing` is the one framing line, in the form in which it may be sent on.
"""

from __future__ import annotations

CHUNKED = -1
UNTIL_CLOSE = -2


class RequestFields:
    """What a request's field lines say. Requests of one connection that repeat their field lines share it.

    `raw` is the lines as they came, from the CR LF before the first; `lines` are those to send, the gateway's own included.
    `authority` is the Host as sent, `host` its name in lower case without port; both are empty for HTTP/1.0 without Host.
    `length` is that of the body, 0 for none, or CHUNKED. `trace` is the trace key that the client sent; there is no such
    attribute where it sent none.
    """

    __slots__ = (
        "authority",
        "expects_continue",
        "framing",
        "host",
        "keep_alive",
        "length",
        "lines",
        "minor_version",
        "raw",
        "trace",
    )
    trace: bytes

    def __init__(self, raw: bytes, minor_version: int, authority: bytes, host: bytes, lines: bytes) -> None:
        self.raw = raw
        self.minor_version = minor_version
        self.authority = authority
        self.host = host
        self.lines = lines
        self.keep_alive = minor_version == 1
        self.length = 0
        self.framing = b""
        self.expects_continue = False

    def of_a_last_request(self) -> RequestFields:
        """The same, without the wish to keep the connection."""
        fields = RequestFields(self.raw, self.minor_version, self.authority, self.host, self.lines)
        fields.keep_alive = False
        fields.length, fields.framing, fields.expects_continue = self.length, self.framing, self.expects_continue
        if hasattr(self, "trace"):
            fields.trace = self.trace
        return fields


class RequestHead:
    """A request as the client meant it.

    `path` is normalised, and is what the target in `open` says: what is routed is what is forwarded.
    """

    __slots__ = ("fields", "method", "open", "path")

    def __init__(self, method: bytes, path: bytes, opened: bytes, fields: RequestFields) -> None:
        self.method = method
        self.path = path
        self.open = opened
        self.fields = fields

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.path!r} host={self.fields.authority!r} length={self.fields.length}>"

    def close_after(self) -> None:
        """Whatever the client wants, this request is the last of its connection."""
        self.fields = self.fields.of_a_last_request()


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
