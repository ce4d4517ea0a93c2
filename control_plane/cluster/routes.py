"""The data planes that serve this store, for `GET /apisix/admin/data_planes`; and the routes whose writes can be waited for.

The law: what a worker said of itself is shown as it said it; nothing here changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from control_plane.admin.openapi import FAILURES, response
from control_plane.cluster.registry import Registry, Workers
from control_plane.cluster.waiting import Outcome, wait_seconds, wait_until_applied
from control_plane.errors import KeyNotFound, answer
from shared.data_planes import WorkerEntry, data_plane_of
from shared.store.contract import ConfigStore

REVISION: Final = "X-Waspgate-Revision"
APPLIED: Final = "X-Waspgate-Applied"
WRITES: Final = frozenset({"PUT", "POST", "PATCH", "DELETE"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class DataPlaneRoutes:
    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def register(self, router: APIRouter) -> None:
        router.add_api_route("/data_planes", self.list_all, methods=["GET"], tags=["data_planes"], **_LIST)
        router.add_api_route("/data_planes/{id}", self.get, methods=["GET"], tags=["data_planes"], **_GET)

    async def list_all(self) -> Response:
        found = grouped(await self._registry.read())
        return answer(200, {"total": len(found), "list": [_shown(id, workers) for id, workers in sorted(found.items())]})

    async def get(self, id: str) -> Response:
        found = grouped(await self._registry.read())
        if id not in found:
            raise KeyNotFound
        return answer(200, _shown(id, found[id]))


def grouped(workers: Workers) -> dict[str, list[WorkerEntry]]:
    """The workers of each data plane, by number."""
    found: dict[str, list[WorkerEntry]] = {}
    for key, worker in workers.items():
        found.setdefault(str(data_plane_of(key)), []).append(worker)
    return {id: sorted(entries, key=lambda one: (one.worker, one.pid)) for id, entries in found.items()}


def _shown(id: str, workers: list[WorkerEntry]) -> dict[str, object]:
    """`applied_revision` is that of the slowest worker; `workers` is how many there should be."""
    of_all = ("host", "version", "listen", "workers")
    newest = asdict(max(workers, key=lambda one: one.started_at))
    return {
        "id": id,
        **{name: newest.pop(name) for name in of_all},
        "started_at": min(worker.started_at for worker in workers),
        "applied_revision": min(worker.revision for worker in workers),
        "ready": all(worker.ready for worker in workers),
        "stale": any(worker.stale for worker in workers),
        "live_workers": [{name: value for name, value in asdict(worker).items() if name not in of_all} for worker in workers],
    }


def awaited(store: ConfigStore, registry: Registry) -> type[APIRoute]:
    """Routes whose writes take `?wait=applied`: all that answer with the revision that they wrote."""

    class AwaitedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                seconds = wait_seconds(request.query_params) if request.method in WRITES else None
                done = await handler(request)
                revision = done.headers.get(REVISION)
                if seconds is None or revision is None:
                    return done
                body = _body(done)
                outcome = await wait_until_applied(store, registry, int(revision), written_keys(body), seconds)
                return _answered(done, body, outcome, int(revision), seconds)

            return handle

    return AwaitedRoute


def written_keys(body: object) -> frozenset[str]:
    """All that an answer says was written."""
    found: set[str] = set()
    waiting = [body]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            key = part.get("key")
            if isinstance(key, str):
                found.add(key)
            # What was written may have a property of that name itself.
            waiting += [inner for name, inner in part.items() if name != "value"]
        elif isinstance(part, list):
            waiting += part
    return frozenset(found)


def _body(done: Response) -> object:
    try:
        return json.loads(bytes(done.body))
    except ValueError:
        return None


def _answered(done: Response, body: object, outcome: Outcome, revision: int, seconds: float) -> Response:
    if outcome.is_applied:
        done.headers[APPLIED] = str(outcome.workers)
        return done
    status = HTTPStatus.BAD_GATEWAY if outcome.refused else HTTPStatus.GATEWAY_TIMEOUT
    said = f"stored at revision {revision}, but {_why(outcome, seconds)}"
    more = {"error_msg": said, "applied": outcome.workers, "refused": outcome.refused, "late": outcome.late}
    return answer(status, {**more, **(body if isinstance(body, dict) else {})}, revision)


def _why(outcome: Outcome, seconds: float) -> str:
    if outcome.refused:
        return f"{_workers(len(outcome.refused))} cannot use it: {outcome.refused[0]['reason']}"
    return f"not served by {_workers(len(outcome.late))} within {seconds:g} s: {outcome.late[0]['reason']}"


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


_LIST: dict[str, Any] = {
    "summary": "List the data planes that serve this configuration, and how far their workers are",
    "operation_id": "get_data_planes",
    "responses": {200: response("All that live", "DataPlanes"), **FAILURES},
}
_GET: dict[str, Any] = {
    "summary": "Read one data plane",
    "operation_id": "get_data_plane",
    "responses": {
        200: response("The data plane", "DataPlane"),
        404: response("There is no such data plane, or none of its workers lives", "KeyNotFound"),
        **FAILURES,
    },
}
