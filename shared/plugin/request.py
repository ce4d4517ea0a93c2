"""A request and its response as native plugins see them, through every phase.

The law: `method`, `path`, `query` and `host` are what the client asked for and what the route was found by, and stay so;
headers and target are those on their way to the upstream, as the plugins before have left them. `context` is the plugins' own:
what one phase leaves there, a later one finds.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from shared.expression.request import RequestVariables
from shared.plugin.body import KeptBody
from shared.plugin.consumer import CONSUMER_HEADERS, Consumer
from shared.plugin.head import Head, text
from shared.plugin.reply import STATUSES, status_line
from shared.request_path import normalise

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from shared.plugin.facts import Asked, ExchangeFacts, Matched, Peer


# A name, an IPv4 address or a bracketed IPv6 address, and perhaps a port.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def check_authority(value: str) -> None:
    """Raises ValueError for what cannot be a Host."""
    if _AUTHORITY.fullmatch(value) is None:
        raise ValueError(f"not a host with an optional port: {value!r}")


_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")


class Own:
    """What most requests' plugins neither ask nor say: `client_address` as real-ip has found it, the bytes of a body that pass
    at most, the consumer, another upstream, and `exchange`, in the log phase only (it would be a cycle before).
    """

    __slots__ = (
        "client_address",
        "consumer",
        "context",
        "exchange",
        "kept_body",
        "max_body",
        "upstream",
        "variables",
        "variables_of",
    )

    def __init__(self) -> None:
        self.context: dict[Hashable, Any] = {}
        self.variables: RequestVariables | None = None
        self.variables_of: bytes | None = None
        self.client_address: tuple[str, int] | None = None
        self.consumer: Consumer | None = None
        self.max_body: int | None = None
        self.upstream: object | None = None
        self.kept_body: KeptBody | None = None
        self.exchange: ExchangeFacts | None = None


class Request(Head):
    """`asked` is the request as it came."""

    __slots__ = ("_peer", "asked", "own", "route")

    def __init__(self, asked: Asked, peer: Peer, route: Matched | None) -> None:
        self.raw = asked.open
        self._lower_of: bytes | None = None
        self.asked = asked
        self.route = route
        self._peer = peer
        self.own: Own | None = None

    def _owned(self) -> Own:
        if self.own is None:
            self.own = Own()
        return self.own

    @property
    def context(self) -> dict[Hashable, Any]:
        """Whatever plugins keep about this request."""
        return self._owned().context

    @property
    def exchange(self) -> ExchangeFacts | None:
        """In the log phase."""
        return None if self.own is None else self.own.exchange

    @property
    def client_address(self) -> tuple[str, int]:
        own = self.own
        return self._peer.client_address if own is None or own.client_address is None else own.client_address

    @client_address.setter
    def client_address(self, address: tuple[str, int]) -> None:
        """For a plugin that knows better (real-ip)."""
        own = self._owned()
        own.client_address = address
        own.variables = None

    @property
    def consumer(self) -> Consumer | None:
        """Who has authenticated itself, or stands for those who have not; None before an auth plugin has run."""
        return None if self.own is None else self.own.consumer

    def attach_consumer(self, consumer: Consumer) -> None:
        """The request is this consumer's, and the upstream is told so. One that was attached before is forgotten."""
        own = self.own
        if own is None:
            own = self.own = Own()
        elif own.consumer is not None:
            for name in CONSUMER_HEADERS:
                self.remove_header(name)
        own.consumer = consumer
        own.variables = None
        self.raw += consumer.lines

    @contextmanager
    def logged(self, exchange: ExchangeFacts) -> Iterator[None]:
        """While this lasts it is the log phase."""
        own = self._owned()
        own.exchange = exchange
        try:
            yield
        finally:
            own.exchange = None

    def set_upstream(self, upstream: object) -> None:
        """In the place of the route's own: one that `Host.upstream` or `Plugin.use_upstreams` has given."""
        self._owned().upstream = upstream

    def limit_body(self, size: int) -> None:
        """A body of more bytes is refused (413), or cut."""
        self._owned().max_body = size

    def keep_body(self, limit: int) -> None:
        """So many bytes of the body's beginning are copied as they go by. In the phases before the upstream."""
        own = self._owned()
        if own.kept_body is None:
            own.kept_body = KeptBody(limit)
        else:
            own.kept_body.widen(limit)

    @property
    def kept_body(self) -> bytes:
        """What has been copied, all of it in the log phase."""
        own = self.own
        return b"" if own is None or own.kept_body is None else own.kept_body.data

    @property
    def method(self) -> str:
        return self.asked.method.decode()

    @property
    def path(self) -> str:
        """Normalised, escapes kept."""
        return text(self.asked.path)

    @property
    def query(self) -> str | None:
        """As it came, without the `?`; None when there is none."""
        target = _target(self.asked.open)
        _, mark, query = target.partition(b"?")
        return text(query) if mark else None

    @property
    def asked_target(self) -> str:
        """Path, normalised, and query, as they came."""
        return text(_target(self.asked.open))

    @property
    def host(self) -> str:
        """In lower case, without port; empty when an HTTP/1.0 client sent none."""
        return text(self.asked.fields.host)

    @property
    def authority(self) -> str:
        """The Host as sent."""
        return text(self.asked.fields.authority)

    @property
    def content_length(self) -> int | None:
        """Of the body; None when it comes in chunks."""
        length = self.asked.fields.length
        return None if length < 0 else length

    @property
    def scheme(self) -> str:
        """As the gateway saw it: it has written X-Forwarded-Proto itself."""
        return "https" if self.header("x-forwarded-proto") == "https" else "http"

    @property
    def client_ip(self) -> str:
        return self.client_address[0]

    @property
    def variables(self) -> RequestVariables:
        """As `vars` and `$variables` read the request: its target as it came, fields as the plugins before have left them."""
        own = self._owned()
        if own.variables is None or own.variables_of is not self.raw:
            own.variables = self._new_variables()
            own.variables_of = self.raw
        return own.variables

    def _new_variables(self) -> RequestVariables:
        asked, opened, route = self.asked, self.raw, self.route
        if opened is not asked.open:
            opened = asked.open.partition(b"\r\n")[0] + opened[opened.index(b"\r\n") :]
        fields = asked.fields
        variables = RequestVariables(
            asked.method,
            asked.path,
            fields.host,
            opened,
            self.client_address,
            self._peer.local_address,
            _PROTOCOLS[fields.minor_version],
            fields.length,
        )
        if route is not None:
            variables.route_id, variables.route_name, variables.service_id = route.id, route.name, route.service_id
        consumer = self.consumer
        if consumer is not None:
            variables.consumer_name, variables.consumer_group_id = consumer.username, consumer.group_id
        return variables

    # What goes to the upstream.

    @property
    def target(self) -> str:
        """Path and query on the way to the upstream."""
        return text(_target(self.raw))

    def set_target(self, target: str) -> None:
        """What follows a `?` is the query. The path takes its normal form, as request paths do; raises ValueError (PathError)
        where it has none."""
        method, _, rest = self.raw.partition(b" ")
        _, _, version = rest.partition(b" ")
        self.raw = b"%b %b %b" % (method, target_bytes(target), version)

    def set_header(self, name: str, value: str) -> None:
        """As `Head.set_header`; there is always one Host, and it is one. Raises ValueError."""
        if name.lower() == "host":
            check_authority(value)
        super().set_header(name, value)

    def add_header(self, name: str, value: str) -> None:
        """As `Head.add_header`; a Host takes the place of the one that there is."""
        if name.lower() == "host":
            self.set_header(name, value)
        else:
            super().add_header(name, value)

    def remove_header(self, name: str) -> None:
        if name.lower() == "host":
            raise ValueError("a request needs its Host")
        super().remove_header(name)

    @property
    def upstream_method(self) -> str:
        return self.raw.partition(b" ")[0].decode()

    def set_method(self, method: str) -> None:
        """An upper-case method towards the upstream; the plugin's `changes_method` has to say that this may be."""
        if not (method.isascii() and method.isalpha() and method.isupper()) or method == "CONNECT":
            raise ValueError(f"not a method that can be sent: {method!r}")
        _, _, rest = self.raw.partition(b" ")
        self.raw = method.encode() + b" " + rest

    # What the query and the cookies say.

    def argument(self, name: str) -> str | None:
        """The first value of a query argument, decoded; an argument without `=` has an empty one."""
        query = self.query
        return None if query is None else _arguments(query).get(name)

    def cookie(self, name: str) -> str | None:
        for line in self.header_values("cookie"):
            for pair in line.split(";"):
                key, mark, value = pair.strip().partition("=")
                if mark and key == name:
                    return value
        return None


class Response(Head):
    """What goes to the client. `content_length` is what was declared of its body, below 0 when nothing was; `came` the open
    head before any native plugin saw it."""

    __slots__ = ("came", "content_length", "status")

    def __init__(self, raw: bytes, status: int, content_length: int = -1) -> None:
        self.raw = self.came = raw
        self._lower_of: bytes | None = None
        self.status = status
        self.content_length = content_length

    def set_status(self, status: int) -> None:
        """Raises ValueError outside of 200 to 599."""
        if status not in STATUSES:
            raise ValueError(f"a response's status is 200 to 599, got {status}")
        self.status = status
        _, _, rest = self.raw.partition(b"\r\n")
        self.raw = status_line(status) + rest


def target_bytes(target: str) -> bytes:
    """The bytes of a target, its path in normal form; raises ValueError (PathError)."""
    path, mark, query = target.partition("?")
    data = path.encode("utf-8", "surrogateescape")
    if not data.startswith(b"/"):
        data = b"/" + data
    return normalise(data) + (b"?" + _query_bytes(query) if mark else b"")


def _query_bytes(query: str) -> bytes:
    data = query.encode("utf-8", "surrogateescape")
    if all(0x21 <= byte <= 0x7E and byte != 0x23 for byte in data):
        return data
    return b"".join(b"%c" % byte if 0x21 <= byte <= 0x7E and byte != 0x23 else b"%%%02X" % byte for byte in data)


def _target(head: bytes) -> bytes:
    start = head.index(b" ") + 1
    return head[start : head.index(b" ", start)]


# Bounded, as the keys are the clients' choice: a request's plugins ask for several arguments of one query.
@lru_cache(maxsize=256)
def _arguments(query: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name:
            arguments.setdefault(_decoded(name), _decoded(value))
    return arguments


def _decoded(value: str) -> str:
    if "%" not in value and "+" not in value:
        return value
    return unquote_plus(value, errors="surrogateescape")
