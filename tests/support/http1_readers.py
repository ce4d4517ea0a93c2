"""Two independent readers of HTTP/1, h11 and llhttp, that say what a stream of requests or of responses means to them.

The law: a reader says everything up to where it gives up, and nothing beyond.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import h11
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

Fields = list[tuple[bytes, bytes]]
MOST = 1 << 20
# RFC 9112, section 2.2, lets a server skip them; h11 does not, and limits.py says how many the gateway does.
EMPTY_LINES = 4


@dataclass
class Message:
    """`complete`: its end was seen; `raw` is all of it, then. Names are in lower case, values without blanks. A response's
    `method` is its status.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    body: bytes = b""
    complete: bool = False
    raw: bytes = b""
    trailers: Fields = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.fields if other == name]


def read_with_h11(data: bytes) -> list[Message]:
    messages: list[Message] = []
    while True:
        for _ in range(EMPTY_LINES):
            data = data.removeprefix(b"\r\n")
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST)
        server.receive_data(data)
        message = None
        while message is None or not message.complete:
            try:
                event = server.next_event()
            except h11.RemoteProtocolError:
                return messages
            if isinstance(event, h11.Request):
                message = Message(event.method, event.target, event.http_version, _as_read(event.headers))
                message.raw = data
                messages.append(message)
            elif isinstance(event, h11.Data) and message is not None:
                message.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and message is not None:
                message.complete = True
                message.trailers = _as_read(event.headers)
            else:
                return messages
        rest = server.trailing_data[0]
        message.raw = data[: len(data) - len(rest)]
        data = rest


def _as_read(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers]


class _Llhttp:
    def __init__(self, kind: type[HttpRequestParser] | type[HttpResponseParser] = HttpRequestParser) -> None:
        self.messages: list[Message] = []
        self._parser = kind(self)
        self._head_done = False

    def on_message_begin(self) -> None:
        self.messages.append(Message(b"", b"", b"", []))
        self._head_done = False

    def on_url(self, url: bytes) -> None:
        self.messages[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.messages[-1]
        (message.trailers if self._head_done else message.fields).append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        message = self.messages[-1]
        parser = self._parser
        message.method = parser.get_method() if isinstance(parser, HttpRequestParser) else b"%d" % parser.get_status_code()
        message.version = self._parser.get_http_version().encode()
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].complete = True

    def read(self, data: bytes) -> list[Message]:
        with suppress(HttpParserError, HttpParserUpgrade):
            self._parser.feed_data(data)
        # One whose head was not read to its end means nothing yet.
        return [message for message in self.messages if message.method]


_UPGRADE = re.compile(rb"(\r\nUpgrad)e(?=:)", re.IGNORECASE)


def read_with_llhttp(data: bytes) -> list[Message]:
    """Message by message, where h11 sees their ends: llhttp takes a `Connection: close` among trailers for one of the head, and
    would stop there. It stops behind a head that offers an upgrade as well: that is declined here, by hiding it.
    """
    messages: list[Message] = []
    for message in read_with_h11(data):
        seen = _Llhttp().read(_UPGRADE.sub(rb"\1_", message.raw))
        if len(seen) != 1:
            break
        (one,) = seen
        one.fields = [(b"upgrade" if name == b"upgrad_" else name, value) for name, value in one.fields]
        one.body = one.body.replace(b"pgrad_", b"pgrade")
        messages.append(one)
        if one.complete != message.complete:
            break
    return messages


def read_responses_with_h11(data: bytes, method: bytes, ended: bool) -> list[Message]:
    """All that precede the final one, and that. `ended`: the connection was closed behind the data."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST)
    client.send(h11.Request(method=method, target=b"/", headers=[("Host", "t")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if ended and data:
        client.receive_data(b"")
    messages: list[Message] = []
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError:
            return messages
        if isinstance(event, h11.InformationalResponse | h11.Response):
            fields = _as_read(event.headers)
            messages.append(Message(b"%d" % event.status_code, b"", event.http_version, fields))
            messages[-1].complete = isinstance(event, h11.InformationalResponse)
        elif isinstance(event, h11.Data):
            messages[-1].body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            messages[-1].complete = True
            messages[-1].trailers = _as_read(event.headers)
            return messages
        else:
            return messages


def read_responses_with_llhttp(data: bytes) -> list[Message]:
    """Those to requests other than HEAD. That a body ends with the connection it does not say: it is incomplete."""
    return _Llhttp(HttpResponseParser).read(data)
