"""What differs in the dialect of APISIX on Python's side: properties are nginx's variables, and a bare error has a page.

The law: a variable is a string, found by its name in any case; what nginx would not have is None. None of them can be set.
Source: APISIX reference, "wasm-nginx-module semantics"; nginx, "Alphabetical index of variables".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from shared.proxy_wasm.outcome import SentReply
from shared.proxy_wasm.pairs import Pairs
from shared.proxy_wasm.properties import StreamFacts
from shared.proxy_wasm.tls_properties import TlsFacts, tls_of

_MS = 1_000_000


class Message:
    """The two heads of a stream as they stand, and what is known beside them."""

    def __init__(self, facts: StreamFacts, request: Pairs, response: Pairs) -> None:
        self.facts = facts
        self.request = dict(reversed(request))
        self.response = dict(reversed(response))

    def path(self) -> bytes:
        return self.request.get(b":path", b"").partition(b"?")[0]

    def query(self) -> bytes:
        return self.request.get(b":path", b"").partition(b"?")[2]


def _host(message: Message) -> bytes:
    """Without its port, in lower case."""
    name, _, port = message.request.get(b":authority", b"").rpartition(b":")
    return (name if name and port.isdigit() else message.request.get(b":authority", b"")).lower()


def _text(value: object) -> bytes:
    return str(value).encode()


def _upstream(message: Message) -> bytes | None:
    address = message.facts.upstream_address
    return None if address is None else _text(f"{address[0]}:{address[1]}")


def _request_time(message: Message) -> bytes | None:
    duration = getattr(message.facts, "duration_ns", None)
    return None if duration is None else b"%d.%03d" % divmod(duration // _MS, 1000)


def _of_tls(read: Callable[[TlsFacts], str | None]) -> Callable[[Message], bytes | None]:
    """A variable that is empty without TLS."""

    def find(message: Message) -> bytes | None:
        tls = tls_of(message.facts)
        return b"" if tls is None else _text(read(tls) or "")

    return find


VARIABLES: dict[str, Callable[[Message], bytes | None]] = {
    "args": Message.query,
    "query_string": Message.query,
    "is_args": lambda message: b"?" if message.query() else b"",
    "content_length": lambda message: message.request.get(b"content-length"),
    "content_type": lambda message: message.request.get(b"content-type"),
    "host": _host,
    "msec": lambda message: b"%d.%03d" % divmod(message.facts.start_time_ns // _MS, 1000),
    "remote_addr": lambda message: _text(message.facts.client_address[0]),
    "remote_port": lambda message: _text(message.facts.client_address[1]),
    "request": lambda message: (
        b"%b %b %b"
        % (message.request.get(b":method", b""), message.request.get(b":path", b""), message.facts.protocol.encode())
    ),
    "request_id": lambda message: message.request.get(b"x-request-id"),
    "request_length": lambda message: _text(message.facts.request_bytes),
    "request_method": lambda message: message.request.get(b":method"),
    "request_time": _request_time,
    "request_uri": lambda message: message.request.get(b":path"),
    "route_name": lambda message: message.facts.route_name.encode(),
    "scheme": lambda message: message.request.get(b":scheme"),
    "server_addr": lambda message: _text(message.facts.local_address[0]),
    "server_port": lambda message: _text(message.facts.local_address[1]),
    "server_protocol": lambda message: message.facts.protocol.encode(),
    "connection": lambda message: _text(message.facts.connection_id),
    "body_bytes_sent": lambda message: _text(message.facts.response_bytes),
    "status": lambda message: message.response.get(b":status"),
    "upstream_addr": _upstream,
    "https": _of_tls(lambda tls: "on"),
    "ssl_protocol": _of_tls(lambda tls: tls.version),
    "ssl_server_name": _of_tls(lambda tls: tls.server_name.decode("latin-1")),
    "ssl_client_s_dn": _of_tls(lambda tls: None if tls.peer is None else tls.peer.subject),
    "ssl_client_verify": _of_tls(lambda tls: "NONE" if tls.peer is None else "SUCCESS"),
    "uri": Message.path,
    "document_uri": Message.path,
}


def _argument(message: Message, name: str) -> bytes | None:
    """The first argument of this name, in any case, as it stands in the query."""
    for part in message.query().split(b"&"):
        key, _, value = part.partition(b"=")
        if key.lower() == name.encode():
            return value
    return None


def _cookie(message: Message, name: str) -> bytes | None:
    for part in message.request.get(b"cookie", b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name.encode():
            return value
    return None


FAMILIES: dict[str, Callable[[Message, str], bytes | None]] = {
    "arg_": _argument,
    "cookie_": _cookie,
    "http_": lambda message, name: message.request.get(name.replace("_", "-").encode()),
    "sent_http_": lambda message, name: message.response.get(name.replace("_", "-").encode()),
}


def is_variable(name: bytes) -> bool:
    text = name.decode("latin-1").lower()
    return text in VARIABLES or text.startswith(tuple(FAMILIES))


def variable(name: bytes, message: Message) -> bytes | None:
    text = name.decode("latin-1").lower()
    read = VARIABLES.get(text)
    if read is not None:
        return read(message)
    for prefix, family in FAMILIES.items():
        if text.startswith(prefix):
            return family(message, text[len(prefix) :])
    return None


# nginx's own texts, where they differ from those of HTTP's registry.
_TITLES = {
    302: "Found",
    401: "Authorization Required",
    403: "Forbidden",
    413: "Request Entity Too Large",
    503: "Service Temporarily Unavailable",
}
_TITLES |= {408: "Request Time-out", 416: "Requested Range Not Satisfiable", 504: "Gateway Time-out"}
_PAGE_TYPE = (b"content-type", b"text/html; charset=utf-8")
_PAGES_FROM = 300
_WITHOUT_BODY = (304,)


def with_page(sent: SentReply) -> SentReply:
    """A local response of 300 and above without a body has nginx's page."""
    if sent.body or sent.status < _PAGES_FROM or sent.status in _WITHOUT_BODY or sent.grpc_status is not None:
        return sent
    fields = tuple(field for field in sent.fields if field[0].lower() != b"content-type")
    return replace(sent, body=_page(sent.status), fields=(*fields, _PAGE_TYPE))


def _page(status: int) -> bytes:
    try:
        title = f"{status} {_TITLES.get(status) or HTTPStatus(status).phrase}"
    except ValueError:
        title = str(status)
    body = f"<center><h1>{title}</h1></center>"
    return f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n{body}\r\n</body>\r\n</html>\r\n".encode()
