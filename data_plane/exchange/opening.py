"""Where an exchange begins: the route decides what kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_plane.exchange.exchange import Exchange
from data_plane.exchange.filtered import FilteredExchange
from data_plane.exchange.heads import HeadExchange
from data_plane.exchange.native import native_exchange

if TYPE_CHECKING:
    from data_plane.exchange.messages import RequestHead
    from data_plane.exchange.ports import ClientPort, Serving


def open_exchange(serving: Serving, client: ClientPort, head: RequestHead) -> Exchange:
    """The exchange of a request, on the snapshot of now."""
    snapshot = serving.snapshot
    route = snapshot.router.match(head.method, head.fields.host, head.path)
    if route is None:
        if snapshot.global_program is not None:
            return native_exchange(serving, client, head, None, snapshot.global_program)
        if snapshot.global_bindings:
            return FilteredExchange(serving, client, head, None, snapshot.global_bindings)
        return Exchange(serving, client, head, None)
    if route.bindings:
        if route.program is not None:
            return native_exchange(serving, client, head, route, route.program)
        kind = FilteredExchange if head.fields.length else HeadExchange
        return kind(serving, client, head, route, route.bindings)
    return Exchange(serving, client, head, route)
