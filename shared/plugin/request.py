"""A request and its response as native plugins see them, through every phase.

The law: `method`, `path`, `query` and `host` are what the client asked for and what the route was found by, and stay so;
headers and target are those on their way to the upstream, as the plugins before have left them. `context` is the plugins' own:
what one phase leaves there, a later one finds.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_plus

from shared.expression.request import RequestVariables
from shared.plugin.head import Head, text
from shared.plugin.reply import STATUSES, status_line
from shared.request_path import normalise

if TYPE_CHECKING:
    from collections.abc import Hashable


# A name, an IPv4 address or a bracketed IPv6 address, and perhaps a port.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def check_authority(value: str) -> None:
    """Raises ValueError for what cannot be a Host."""
    if _AUTHORITY.fullmatch(value) is None:
        raise ValueError(f"not a host with an optional port: {value!r}")


class Fields(Protocol):
    """What a request's field lines said; `length` is that of the body, 0 for none, below 0 when it is not known yet."""

    authority: bytes
    host: bytes
    length: int


class Asked(Protocol):
    """The request's head as it came: `open` is the open head, `path` normalised."""

    @property
    def method(self) -> bytes: ...

    @property
    def path(self) -> bytes: ...

    @property
    def open(self) -> bytes: ...

    @property
    def fields(self) -> Fields: ...


class Matched(Protocol):
    """The route that was found."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def service_id(self) -> str | None: ...


class ExchangeFacts(Protocol):
    """The exchange, as plugins may look at it. Addresses are (host, port), times Unix nanoseconds, sizes bodies'."""

    @property
    def head(self) -> Asked: ...

    @property
    def route(self) -> Matched | None: ...

    @property
    def client_address(self) -> tuple[str, int]: ...

    @property
    def local_address(self) -> tuple[str, int]: ...

    @property
    def connection_id(self) -> int: ...

    @property
    def protocol(self) -> str: ...

    @property
    def upstream_address(self) -> tuple[str, int] | None: ...

    @property
    def start_time_ns(self) -> int: ...

    @property
    def duration_ns(self) -> int | None:
        """Once the response is complete, or what there will be of it."""

    @property
    def request_bytes(self) -> int: ...

    @property
    def response_bytes(self) -> int: ...


class Request(Head):
    __slots__ = ("_asked", "_context", "_variables", "client_address", "exchange", "max_body")

    def __init__(self, exchange: ExchangeFacts, asked: Asked) -> None:
        self._raw = asked.open
        self._lower: bytes | None = None
        self._asked = asked
        self._context: dict[Hashable, Any] | None = None
        self._variables: tuple[bytes, RequestVariables] | None = None
        self.exchange = exchange
        # A plugin that knows better (real-ip) writes it.
        self.client_address = exchange.client_address
        # Bytes of a body that a plugin lets pass at most.
        self.max_body: int | None = None

    @property
    def context(self) -> dict[Hashable, Any]:
        """Whatever plugins keep about this request."""
        if self._context is None:
            self._context = {}
        return self._context

    @property
    def method(self) -> str:
        return self._asked.method.decode()

    @property
    def path(self) -> str:
        """Normalised, escapes kept."""
        return text(self._asked.path)

    @property
    def query(self) -> str | None:
        """As it came, without the `?`; None when there is none."""
        target = _target(self._asked.open)
        _, mark, query = target.partition(b"?")
        return text(query) if mark else None

    @property
    def asked_target(self) -> str:
        """Path, normalised, and query, as they came."""
        return text(_target(self._asked.open))

    @property
    def host(self) -> str:
        """In lower case, without port; empty when an HTTP/1.0 client sent none."""
        return text(self._asked.fields.host)

    @property
    def authority(self) -> str:
        """The Host as sent."""
        return text(self._asked.fields.authority)

    @property
    def content_length(self) -> int | None:
        """Of the body; None when it comes in chunks."""
        length = self._asked.fields.length
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
        known = self._variables
        if known is not None and known[0] is self._raw and known[1].client_address is self.client_address:
            return known[1]
        variables = self._new_variables()
        self._variables = (self._raw, variables)
        return variables

    def _new_variables(self) -> RequestVariables:
        asked, exchange, opened = self._asked, self.exchange, self._raw
        if opened is not asked.open:
            opened = asked.open.partition(b"\r\n")[0] + opened[opened.index(b"\r\n") :]
        fields = asked.fields
        variables = RequestVariables(
            asked.method,
            asked.path,
            fields.host,
            opened,
            self.client_address,
            exchange.local_address,
            exchange.protocol,
            fields.length,
        )
        route = exchange.route
        if route is not None:
            variables.route_id, variables.route_name, variables.service_id = route.id, route.name, route.service_id
        return variables

    # What goes to the upstream.

    @property
    def target(self) -> str:
        """Path and query on the way to the upstream."""
        return text(_target(self._raw))

    def set_target(self, target: str) -> None:
        """What follows a `?` is the query. The path takes its normal form, as request paths do; raises ValueError (PathError)
        where it has none."""
        method, _, rest = self._raw.partition(b" ")
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
        return self._raw.partition(b" ")[0].decode()

    def set_method(self, method: str) -> None:
        """An upper-case method towards the upstream."""
        if not (method.isascii() and method.isalpha() and method.isupper()) or method == "CONNECT":
            raise ValueError(f"not a method that can be sent: {method!r}")
        _, _, rest = self._raw.partition(b" ")
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
    """What goes to the client."""

    __slots__ = ("status",)

    def __init__(self, raw: bytes, status: int) -> None:
        self._raw = raw
        self._lower: bytes | None = None
        self.status = status

    def set_status(self, status: int) -> None:
        """Raises ValueError outside of 200 to 599."""
        if status not in STATUSES:
            raise ValueError(f"a response's status is 200 to 599, got {status}")
        self.status = status
        _, _, rest = self._raw.partition(b"\r\n")
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
