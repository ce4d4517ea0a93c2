"""What is measured: an etcd with so many routes, a control plane, a data plane of several workers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from shared.keys import resource_key
from shared.store.contract import Put
from shared.store.request import MAX_OPERATIONS
from shared.store.url import open_store
from tests.bench_control.workers import HOST
from tests.support.command import free_port, running
from tests.support.data_plane import DataPlane
from tests.support.etcd import Etcd
from tests.support.raw_http import client

KEY = "bench-control"
LONGEST_START_SECONDS = 300.0
# Answered by the gateway itself: an upstream is not what is measured.
ANSWER = {"mocking": {"response_example": "ok"}}


@contextmanager
def etcd_with(folder: Path, routes: int) -> Iterator[Etcd]:
    server = Etcd(folder / "etcd")
    asyncio.run(server.start())
    try:
        asyncio.run(_fill(server.url, routes))
        yield server
    finally:
        server.kill()


async def _fill(url: str, routes: int) -> None:
    async with open_store(url) as store:
        await store.put(resource_key("upstreams", "shared"), json.dumps({"nodes": {f"{HOST}:1": 1}}).encode())
        for first in range(0, routes, MAX_OPERATIONS):
            numbers = range(first, min(first + MAX_OPERATIONS, routes))
            await store.transaction((), [Put(resource_key("routes", f"r{number}"), _route(number)) for number in numbers])


def _route(number: int) -> bytes:
    document = {"id": f"r{number}", "uri": path(number), "upstream_id": "shared", "name": f"route {number}"}
    return json.dumps(document | {"plugins": ANSWER} if number == 0 else document).encode()


def path(number: int) -> str:
    return f"/bench/{number // 100}/{number}/*"


@dataclass(frozen=True, slots=True)
class Serving:
    """`seconds` is how long it took from its start to the first answer of a route."""

    plane: DataPlane
    seconds: float

    def workers(self) -> list[int]:
        """Without the observer, of which there is none here."""
        return sorted(self.plane.workers())


@contextmanager
def data_plane(folder: Path, store: str, workers: int) -> Iterator[Serving]:
    began = time.monotonic()
    plane = DataPlane(folder, "--workers", str(workers), store=store)
    try:
        while _status(plane, "/bench/0/0/x") != 200:
            if plane.process.poll() is not None or time.monotonic() - began > LONGEST_START_SECONDS:
                raise RuntimeError(f"the data plane did not start:\n{plane.log[-2000:]}")
            time.sleep(0.01)
        first = time.monotonic() - began
        while len(plane.events("ready")) < workers:
            time.sleep(0.05)
        yield Serving(plane, first)
    finally:
        plane.process.terminate()
        plane.process.wait(60)


@contextmanager
def control_plane(folder: Path, store: str) -> Iterator[httpx.Client]:
    admin = f"{HOST}:{free_port()}"
    with running(["control-plane", "--store", store, "--admin", admin], folder, WASPGATE_ADMIN_KEY=KEY) as command:
        command.wait_for(f"http://{admin}/apisix/admin/routes", 401)
        base = f"http://{admin}/apisix/admin/"
        with httpx.Client(base_url=base, headers={"X-API-KEY": KEY}, trust_env=False, timeout=60) as client:
            yield client


def _status(plane: DataPlane, of: str) -> int | None:
    try:
        with client(plane.port) as raw:
            return raw.get(of.encode()).status
    except (OSError, EOFError):
        return None
