"""What native plugins may know of what the gateway holds: of a request's head, its client, its route and its exchange.

The law: read only; the gateway's own objects are these, so nothing is copied for a plugin.
"""

from __future__ import annotations

from typing import Protocol


class Fields(Protocol):
    """What a request's field lines said; `length` is that of the body, 0 for none, below 0 when it is not known yet.
    `minor_version` is 2 for HTTP/2."""

    authority: bytes
    host: bytes
    length: int
    minor_version: int


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


class Peer(Protocol):
    """The client's connection; addresses are (host, port)."""

    @property
    def client_address(self) -> tuple[str, int]: ...

    @property
    def local_address(self) -> tuple[str, int]: ...


class ExchangeFacts(Peer, Protocol):
    """The exchange, for the log phase. Times are Unix nanoseconds, sizes those of bodies."""

    @property
    def head(self) -> Asked: ...

    @property
    def route(self) -> Matched | None: ...

    @property
    def connection_id(self) -> int: ...

    @property
    def upstream_address(self) -> tuple[str, int] | None: ...

    @property
    def start_time_ns(self) -> int: ...

    @property
    def duration_ns(self) -> int | None:
        """Once the response is complete, or what there will be of it."""

    @property
    def declared_length(self) -> int:
        """Of the response's body; below 0 when nothing was declared."""

    @property
    def request_bytes(self) -> int: ...

    @property
    def response_bytes(self) -> int: ...
