"""One request as variables read it: parsed as far as they ask, and no part of it twice.

The law: field values are those on their way to the upstream (an open head, data_plane/plugins/interface.py), so what a rule
looks at is what the upstream gets; what the client says of one hop (Connection, TE) is not among them. What cannot be read is
absent; nothing is raised but `BodyNeeded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from shared.expression.operators import Value
from shared.expression.posted import form_fields, posted_fields, posted_value

_NOTHING: Mapping[bytes, bytes] = {}


class BodyNeeded(Exception):
    """A variable is in the request's body, which is not here yet."""


class RequestVariables:
    """`path` is normalised, `host` in lower case and without port, `opened` the open head. Addresses are (host, port).

    `length` is the body's, negative when it is not known. The rest is written by whoever knows it: `body` once it is here in
    full, `parameters` of the pattern that a route is tried by, `status` once there is a response, the route when it is found,
    the consumer when it is known.
    """

    __slots__ = (
        "_arguments",
        "_cookies",
        "_fields",
        "_posted",
        "body",
        "client_address",
        "consumer_group_id",
        "consumer_name",
        "host",
        "length",
        "local_address",
        "method",
        "opened",
        "parameters",
        "path",
        "protocol",
        "route_id",
        "route_name",
        "service_id",
        "status",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        host: bytes,
        opened: bytes,
        client_address: tuple[str, int],
        local_address: tuple[str, int],
        protocol: str = "HTTP/1.1",
        length: int = 0,
    ) -> None:
        self.method = method
        self.path = path
        self.host = host
        self.opened = opened
        self.client_address = client_address
        self.local_address = local_address
        self.protocol = protocol
        self.length = length
        self.body: bytes | None = None if length else b""
        self.parameters = _NOTHING
        self.route_id: str | None = None
        self.route_name: str | None = None
        self.service_id: str | None = None
        self.consumer_name: str | None = None
        self.consumer_group_id: str | None = None
        self.status: int | None = None
        self._fields: Mapping[bytes, bytes] | None = None
        self._arguments: Mapping[bytes, bytes] | None = None
        self._cookies: Mapping[bytes, bytes] | None = None
        self._posted: Mapping[bytes, Value] | None = None

    @property
    def target(self) -> bytes:
        """Path and query."""
        return self.opened.split(b" ", 2)[1]

    @property
    def query(self) -> bytes | None:
        _, mark, query = self.target.partition(b"?")
        return query if mark else None

    def field(self, name: bytes) -> bytes | None:
        """By its name in lower case with underscores; values of repeated fields are joined by commas, cookies by semicolons."""
        if self._fields is None:
            self._fields = _fields(self.opened)
        return self._fields.get(name)

    def argument(self, name: bytes) -> bytes | None:
        """The first one of the query, decoded; empty without `=`."""
        if self._arguments is None:
            self._arguments = form_fields(self.query or b"")
        return self._arguments.get(name)

    def cookie(self, name: bytes) -> bytes | None:
        if self._cookies is None:
            self._cookies = _cookies(self.field(b"cookie") or b"")
        return self._cookies.get(name)

    def posted(self, name: bytes) -> Value:
        """A field of a form."""
        if self.body is None:
            raise BodyNeeded
        if self._posted is None:
            self._posted = posted_fields(self.field(b"content_type") or b"", self.body)
        return self._posted.get(name)

    def posted_at(self, path: tuple[str | int, ...]) -> Value:
        """What stands in a JSON body at the path; of a form, the field of that name."""
        if self.body is None:
            raise BodyNeeded
        return posted_value(self.field(b"content_type") or b"", self.body, path)

    def parameter(self, name: bytes) -> bytes | None:
        """A segment of the path, as its route's pattern names it; decoded."""
        value = self.parameters.get(name)
        return None if value is None else unquote_to_bytes(value)


def _fields(opened: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in opened.split(b"\r\n")[1:]:
        name, mark, value = line.partition(b":")
        if mark:
            key, value = name.lower().replace(b"-", b"_"), value.strip(b" \t")
            before = fields.get(key)
            separator = b"; " if key == b"cookie" else b", "
            fields[key] = value if before is None else before + separator + value
    return fields


def _cookies(line: bytes) -> dict[bytes, bytes]:
    """The first of a name counts: clients send the one of the longest path first."""
    cookies: dict[bytes, bytes] = {}
    for pair in line.split(b";"):
        name, mark, value = pair.partition(b"=")
        if mark:
            cookies.setdefault(name.strip(b" \t"), value.strip(b" \t"))
    return cookies
