"""A log line for each error of an upstream, as far as a log is any use for them: so many a second, and how many more.

The law: it is called when something went wrong, never by a request that goes well; the number of all errors is a counter's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from data_plane.observe.log_rate import LogRate

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Route

log = structlog.get_logger("upstream")

# Enough to see which servers of an upstream fail, and how.
LINES_PER_SECOND = 10


class UpstreamLog:
    """UpstreamErrors of one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._rate = LogRate(LINES_PER_SECOND, loop, self._dropped)

    def __call__(self, kind: str, route: Route | None, node: Node | None) -> None:
        if self._rate.admits():
            route_id, upstream = (None, None) if route is None else (route.id, route.upstream)
            name = None if upstream is None else upstream.name
            address = None if node is None else f"{node.host}:{node.port}"
            log.warning("upstream error", kind=kind, route=route_id, upstream=name, node=address)

    def _dropped(self, lines: int) -> None:
        log.warning("more upstream errors", errors=lines)
