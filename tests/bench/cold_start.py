"""How long a data plane takes from nothing to its first served request, with 10,000 routes and a plugin in the store."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench import waspgate
from tests.bench.traffic import path
from tests.bench.works import HEADERS

ROUTES = 10_000
STARTS = 3


def cold_start_seconds(folder: Path, upstream_port: int) -> list[float]:
    """One for each start; the first may compile what later ones find compiled."""
    store = waspgate.store_url(folder, "cold-start")
    waspgate.fill(store, upstream_port, work=HEADERS, routes=ROUTES)
    taken = []
    for _ in range(STARTS):
        started = time.monotonic()
        with waspgate.data_plane(folder, store, "cold-start") as server:
            server.await_answer(path(ROUTES - 1))
            taken.append(time.monotonic() - started)
    return taken
