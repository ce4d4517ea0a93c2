"""Whom a connection to an upstream serves: what it asks of a request, and what it tells.

The law: between `begin` and the end of the response, or its loss, a connection has one requester; after `release`, `close` and
`upstream_lost` it tells it nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from data_plane.exchange.messages import RequestHead, ResponseHead

if TYPE_CHECKING:
    from data_plane.exchange.ports import UpstreamPort


@mypyc_attr(allow_interpreted_subclasses=True)
class Requester:
    """`head` is the request's."""

    __slots__ = ("head",)

    def __init__(self, head: RequestHead) -> None:
        self.head = head

    @property
    def keeps_trailers(self) -> bool:
        """Whether `upstream_trailers` is told those of a response."""
        return False

    @property
    def send_timeout(self) -> float:
        """Seconds that the upstream may take to read what was sent."""
        raise NotImplementedError

    def upstream_ready(self, conn: UpstreamPort) -> None:
        """A connection is open."""
        raise NotImplementedError

    def upstream_failed(self, kind: str) -> None:
        """No connection came about."""
        raise NotImplementedError

    def upstream_response(self, response: ResponseHead, body: bytes, eos: bool) -> None:
        raise NotImplementedError

    def upstream_interim(self, response: ResponseHead) -> None:
        """A response that precedes the final one, other than 100 and 101."""

    def upgrades(self) -> bool:
        """Whether `upstream_switched` may be told now."""
        return False

    def upstream_switched(self, response: ResponseHead, early: bytes) -> None:
        """A 101, and what came behind it; the connection is not read on."""
        raise NotImplementedError

    def upstream_body(self, data: bytes, eos: bool) -> None:
        raise NotImplementedError

    def upstream_trailers(self, lines: bytes) -> None:
        """The field lines behind a body, told before its end."""

    def upstream_lost(self, kind: str) -> None:
        raise NotImplementedError

    def upstream_blocked(self) -> None:
        """What was sent piles up."""
        raise NotImplementedError

    def upstream_writable(self) -> None:
        raise NotImplementedError
