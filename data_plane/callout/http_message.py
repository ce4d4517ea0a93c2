"""The messages of a plugin's HTTP call: its fields become a request that may be sent, a response becomes fields again.

The law: what leaves has one reading. Names are tokens, values have no control characters, the target has no spaces; whatever
frames a message or concerns one hop is the gateway's to say, and is dropped when the plugin says it. Statuses of what is wrong
are those of Envoy's host: BadArgument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_plane.exchange.framing import CHUNKED_LINE, chunk, length_line
from data_plane.exchange.messages import RequestFields, RequestHead, ResponseHead
from data_plane.exchange.outgoing import Outgoing
from data_plane.http.authority import AuthorityError, host_of
from shared.proxy_wasm.pairs import Pairs

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
# As the gateway takes them from clients.
_METHOD = re.compile(rb"[A-Z-]+")
_TARGET = re.compile(rb"[!-\"$-~]+")
_PSEUDO = frozenset({b":method", b":path", b":authority", b":scheme"})
_OF_GATEWAY = frozenset(
    {
        *(b"connection", b"content-length", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"keep-alive"),
        *(b"proxy-connection", b"http2-settings", b"host", b"expect"),
    }
)
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})


class BadCall(ValueError):
    """The call cannot be made as the plugin wrote it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A plugin's fields, taken apart. `authority` may be empty where that is allowed."""

    method: bytes
    path: bytes
    authority: bytes
    scheme: str
    lines: bytes


def read_fields(fields: Pairs, *, defaults: bool) -> Asked:
    """With `defaults` (APISIX) only what cannot be guessed is asked for. Raises BadCall."""
    pseudo: dict[bytes, bytes] = {}
    lines, host = [], b""
    for name, value in fields:
        lowered = name.lower()
        if lowered in _PSEUDO:
            pseudo[lowered] = value
        elif _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise BadCall(f"field {name!r} is not one that HTTP allows")
        elif lowered == b"host":
            host = value
        elif lowered not in _OF_GATEWAY:
            lines.append(b"%b: %b\r\n" % (name, value))
    if defaults:
        pseudo = {b":method": b"GET", b":path": b"/", b":authority": host, **pseudo}
    elif host:
        pseudo.setdefault(b":authority", host)
    missing = [name.decode() for name in (b":method", b":path", b":authority") if name not in pseudo]
    if missing:
        raise BadCall(f"{', '.join(missing)} must be given")
    return _checked(pseudo, b"".join(lines), defaults)


def _checked(pseudo: dict[bytes, bytes], lines: bytes, defaults: bool) -> Asked:
    method, path, authority = pseudo[b":method"], pseudo[b":path"], pseudo[b":authority"]
    if _METHOD.fullmatch(method) is None or method == b"CONNECT":
        raise BadCall(f"method {method!r} cannot be called")
    if defaults and not path.startswith(b"/"):
        path = b"/" + path
    if not path.startswith(b"/") and not (method == b"OPTIONS" and path == b"*"):
        raise BadCall(f":path {path!r} does not begin with /")
    if _TARGET.fullmatch(path) is None:
        raise BadCall(f":path {path!r} is no request target")
    if authority or not defaults:
        try:
            host_of(authority)
        except AuthorityError as error:
            raise BadCall(f":authority {authority!r}: {error}") from error
    scheme = pseudo.get(b":scheme", b"http")
    if scheme not in (b"http", b"https"):
        raise BadCall(f":scheme {scheme!r} is neither http nor https")
    return Asked(method, path, authority, scheme.decode(), lines)


class WholeRequest(Outgoing):
    """A request that is all here: it can go out as often as the method allows."""

    __slots__ = ("_body",)

    def __init__(self, framing: bytes, body: bytes) -> None:
        super().__init__(framing, rewritten=False)
        self._body = body

    def take(self) -> bytes:
        if self._head is None or self._complete:
            return b""
        self._complete = True
        return b"%b%b\r\n%b" % (self._head, self._framing, self._body)


def compose(asked: Asked, authority: bytes, body: bytes, trailers: Pairs) -> tuple[RequestHead, WholeRequest]:
    """Raises BadCall."""
    if trailers:
        framing, content = CHUNKED_LINE, chunk(body, False) + b"0\r\n" + _trailer_lines(trailers) + b"\r\n"
    else:
        framing = length_line(len(body)) if body or asked.method in _WITH_BODY else b""
        content = body
    host = b"Host: %b\r\n" % authority if authority else b""
    opened = b"%b %b HTTP/1.1\r\n%b%b" % (asked.method, asked.path, host, asked.lines)
    fields = RequestFields(b"", 1, authority, host_of(authority) if authority else b"", asked.lines)
    fields.length = len(content)
    return RequestHead(asked.method, asked.path, opened, fields), WholeRequest(framing, content)


def _trailer_lines(trailers: Pairs) -> bytes:
    for name, value in trailers:
        if _TOKEN.fullmatch(name) is None or name.lower() in _OF_GATEWAY or _VALUE.fullmatch(value) is None:
            raise BadCall(f"trailer {name!r} is not one that HTTP allows")
    return b"".join(b"%b: %b\r\n" % field for field in trailers)


def response_fields(response: ResponseHead) -> Pairs:
    """`:status` first, names in lower case."""
    _, _, rest = (response.open + response.framing).partition(b"\r\n")
    return ((b":status", b"%d" % response.status), *_pairs(rest))


def trailer_fields(lines: bytes) -> Pairs:
    """Without those that no trailer may be (RFC 9110 6.5.1)."""
    return tuple(field for field in _pairs(lines) if field[0] not in _OF_GATEWAY)


def _pairs(lines: bytes) -> Pairs:
    parts = (line.partition(b":") for line in lines.split(b"\r\n") if line)
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in parts)
