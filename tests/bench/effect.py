"""How long a change takes: from sending a PUT to the Admin API to the first request that a worker serves by it.

The law: the worker is asked again and again without a pause, so that the figure is the gateway's and not the poll's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.bench import waspgate
from tests.bench.errors import BenchError
from tests.bench.server import HOST, ask
from tests.bench.traffic import ROUTES, path
from tests.bench.works import PLAIN

CHANGES = 200
LONGEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Effect:
    """Milliseconds, one for each change: until the PUT was answered, and until its route was served."""

    answered_ms: list[float]
    served_ms: list[float]


def put_to_effect(folder: Path, upstream_port: int) -> Effect:
    """Raises BenchError."""
    store = waspgate.store_url(folder, "effect")
    waspgate.fill(store, upstream_port, work=PLAIN, routes=ROUTES)
    with waspgate.data_plane(folder, store, "effect") as worker, waspgate.admin_api(folder, store) as admin:
        worker.await_answer(path(0))
        changes = HTTPConnection(HOST, admin.port, timeout=10)
        requests = HTTPConnection(HOST, worker.port, timeout=5)
        try:
            taken = [_change(changes, requests, number) for number in range(CHANGES)]
        finally:
            changes.close()
            requests.close()
    return Effect([answered * 1e3 for answered, _ in taken], [served * 1e3 for _, served in taken])


def _change(changes: HTTPConnection, requests: HTTPConnection, number: int) -> tuple[float, float]:
    target = f"/effect-{number}"
    if ask(requests, target).status != 404:
        raise BenchError(f"the gateway serves {target} before there is a route for it")
    started = time.monotonic()
    _put(changes, f"/apisix/admin/routes/effect-{number}", {"uri": target, "service_id": "bench"})
    answered = time.monotonic() - started
    while ask(requests, target).status != 200:
        if time.monotonic() - started > LONGEST_SECONDS:
            raise BenchError(f"a route was not served {LONGEST_SECONDS:.0f} s after it was put: {target}")
    return answered, time.monotonic() - started


def _put(connection: HTTPConnection, resource: str, document: dict[str, str]) -> None:
    connection.request("PUT", resource, json.dumps(document), {"x-api-key": waspgate.ADMIN_KEY})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 201:
        raise BenchError(f"PUT {resource} was answered with {answer.status}: {body.decode(errors='replace')}")
