"""Where an exchange begins: the route decides what kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.config.snapshot import BY_REQUIREMENT
from data_plane.exchange.choosing import choose_exchange, choose_route, variables_of
from data_plane.exchange.exchange import Exchange
from data_plane.exchange.filtered import FilteredExchange
from data_plane.exchange.heads import HeadExchange
from data_plane.exchange.native import native_exchange

if TYPE_CHECKING:
    from data_plane.config.snapshot import Route, Snapshot
    from data_plane.exchange.messages import RequestHead
    from data_plane.exchange.ports import ClientPort, Serving


def open_exchange(serving: Serving, client: ClientPort, head: RequestHead) -> Exchange:
    """The exchange of a request, on the snapshot of now."""
    snapshot = serving.snapshot
    route = snapshot.router.match(head.method, head.fields.host, head.path)
    if route is None:
        return exchange_of(serving, client, head, None)
    if route.bindings:
        if route.program is not None:
            if route is BY_REQUIREMENT:
                return choose_exchange(serving, client, head, exchange_of)
            return native_exchange(serving, client, head, route, route.program)
        kind = FilteredExchange if head.fields.length else HeadExchange
        return kind(serving, client, head, route, route.bindings)
    return Exchange(serving, client, head, route)


def exchange_of(serving: Serving, client: ClientPort, head: RequestHead, route: Route | None) -> Exchange:
    """The same once the route is known."""
    snapshot = serving.snapshot
    bindings = snapshot.global_bindings if route is None else route.bindings
    program = snapshot.global_program if route is None else route.program
    if not bindings:
        return Exchange(serving, client, head, route)
    if program is not None:
        return native_exchange(serving, client, head, route, program)
    kind = FilteredExchange if head.fields.length or route is None else HeadExchange
    return kind(serving, client, head, route, bindings)


def find_route(snapshot: Snapshot, client: ClientPort, head: RequestHead, more: bytes = b"") -> Route | None:
    """The route that a request would take as far as its head tells; `more` are field lines that its open head has not."""
    route = snapshot.router.match(head.method, head.fields.host, head.path)
    return choose_route(snapshot, variables_of(client, head, more)) if route is BY_REQUIREMENT else route
