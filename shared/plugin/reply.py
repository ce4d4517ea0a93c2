"""A plugin's answer in the place of the upstream's.

The law: what it says is valid on a wire; it goes through the response phases of every plugin, like an upstream's response.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from shared.plugin.head import Head

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
STATUSES = range(200, 600)


def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b""))


class Reply:
    """`body`: text or bytes are sent as they are, anything else as JSON with a line end behind it, as APISIX does.

    Raises ValueError for a status outside of 200 to 599 and a header that a plugin may not write.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: object = b"", headers: tuple[tuple[str, str], ...] = ()) -> None:
        if status not in STATUSES:
            raise ValueError(f"a reply's status is 200 to 599, got {status}")
        self.status = status
        self.headers = headers
        if isinstance(body, bytes):
            self.body = body
        elif isinstance(body, str):
            self.body = body.encode("utf-8", "surrogateescape")
        else:
            self.body = json_body(body)
            if not any(name.lower() == "content-type" for name, _ in headers):
                self.headers = (("Content-Type", "application/json"), *headers)

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.body[:40]!r}>"

    def open_head(self) -> bytes:
        head = Head(status_line(self.status) + b"Server: waspgate\r\n")
        for name, value in self.headers:
            if name.lower() == "server":
                head.set_header(name, value)
            else:
                head.add_header(name, value)
        return head.raw


def json_body(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
