"""The route of a request when more than its method, host and path decides (BY_REQUIREMENT).

The law: what decides is the request as it came, its body included if a route asks for that; and then the body is held in full,
up to ROUTED_BODY_BYTES, before there is an exchange that does anything. A larger one is refused, not routed as if it were
empty: else padding would lead around a route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.sending import DONE
from shared.expression.request import BodyNeeded, RequestVariables

if TYPE_CHECKING:
    from data_plane.config.snapshot import Route, Snapshot
    from data_plane.exchange.messages import RequestHead
    from data_plane.exchange.ports import ClientPort, Serving

# Reading the JSON of so much takes some milliseconds.
ROUTED_BODY_BYTES = 1024 * 1024

# By `minor_version`.
_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")

# Makes the exchange of a request whose route is known.
Opening = Callable[["Serving", "ClientPort", "RequestHead", "Route | None"], Exchange]


def variables_of(client: ClientPort, head: RequestHead, more: bytes = b"") -> RequestVariables:
    """`more` are field lines that the open head has not, each with its CR LF."""
    fields = head.fields
    return RequestVariables(
        head.method,
        head.path,
        fields.host,
        head.open + more,
        client.client_address,
        client.local_address,
        _PROTOCOLS[fields.minor_version],
        fields.length,
    )


def choose_route(snapshot: Snapshot, variables: RequestVariables) -> Route | None:
    """For a request whose body cannot be waited for: variables in it are absent."""
    try:
        return snapshot.choose(variables)
    except BodyNeeded:
        variables.body = b""
        return snapshot.choose(variables)


def choose_exchange(serving: Serving, client: ClientPort, head: RequestHead, opening: Opening) -> Exchange:
    variables = variables_of(client, head)
    try:
        route = serving.snapshot.choose(variables)
    except BodyNeeded:
        return ChoosingExchange(serving, client, head, variables, opening)
    return opening(serving, client, head, route)


class ChoosingExchange(Exchange):
    """Holds the body; from then on it only hands events on to `_chosen`."""

    __slots__ = ("_chosen", "_opening", "_pieces", "_size", "_snapshot", "_variables")

    def __init__(
        self, serving: Serving, client: ClientPort, head: RequestHead, variables: RequestVariables, opening: Opening
    ) -> None:
        super().__init__(serving, client, head, None)
        self._snapshot = serving.snapshot
        self._variables = variables
        self._opening = opening
        self._pieces: list[bytes] = []
        self._size = 0
        self._chosen: Exchange | None = None

    def start(self, body: bytes, eos: bool) -> None:
        self.request_body(body, eos)
        if not self.request_done:
            self._answer_expectation(body)

    def request_body(self, data: bytes, eos: bool) -> None:
        if self._chosen is not None:
            self._chosen.request_body(data, eos)
        elif self._hold(data, eos):
            chosen, body = self._choose()
            if body:
                chosen.start(body, True)
            else:
                # Its framing may have said that there is one.
                chosen.start(b"", False)
                chosen.request_body(b"", True)

    def request_trailers(self, lines: bytes) -> None:
        if self._chosen is not None:
            self._chosen.request_trailers(lines)
        elif self._hold(b"", True):
            chosen, body = self._choose()
            chosen.start(body, False)
            chosen.request_trailers(lines)

    def _hold(self, data: bytes, eos: bool) -> bool:
        """Whether the body is here in full, and no refusal was due."""
        self.request_done = eos
        if self.state == DONE:
            return False
        self._pieces.append(data)
        self._size += len(data)
        if self._size > ROUTED_BODY_BYTES:
            self._pieces.clear()
            self._fail("body_too_large")
            return False
        return eos

    def _choose(self) -> tuple[Exchange, bytes]:
        body = self._variables.body = b"".join(self._pieces)
        self._pieces.clear()
        route = self._snapshot.choose(self._variables)
        self._chosen = self._opening(self.serving, self.client, self.head, route)
        return self._chosen, body

    # What is told to whoever serves the request.

    def client_blocked(self) -> None:
        if self._chosen is None:
            super().client_blocked()
        else:
            self._chosen.client_blocked()

    def client_writable(self) -> None:
        if self._chosen is None:
            super().client_writable()
        else:
            self._chosen.client_writable()

    def client_gone(self) -> None:
        if self._chosen is None:
            super().client_gone()
        else:
            self._chosen.client_gone()

    def client_failed(self, kind: str) -> None:
        if self._chosen is None:
            super().client_failed(kind)
        else:
            self._chosen.client_failed(kind)

    def held(self) -> object:
        return None if self._chosen is None else self._chosen.held()

    def held_too_long(self) -> None:
        if self._chosen is not None:
            self._chosen.held_too_long()
