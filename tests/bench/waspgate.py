"""Waspgate as it comes: a data plane with one worker on a SQLite store, and the Admin API where a figure needs it.

The law: the configuration is written to the store before the worker starts, through the store's contract; every route
inherits its plugin and its upstream from one service, so that each has a PluginContext of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.keys import Kind, resource_key
from shared.store.blobs import put_module
from shared.store.contract import Put
from shared.store.url import open_store
from tests.bench.encryption import PAIR
from tests.bench.server import HOST, Server, free_port, free_ports, running
from tests.bench.traffic import ROUTES, path, uri
from tests.bench.works import Work

ADMIN_KEY = "a key for one run on loopback"
# Routes written in one transaction; the store takes up to 128.
CHUNK = 100


@contextmanager
def proxy(folder: Path, upstream_port: int, *, work: Work, routes: int = ROUTES) -> Iterator[Server]:
    """A worker that serves its last route."""
    name = f"waspgate{work.suffix}"
    store = store_url(folder, name)
    fill(store, upstream_port, work=work, routes=routes)
    with data_plane(folder, store, name, tls=work.tls, h2c=work.h2) as server:
        server.await_answer(path(routes - 1, work.resource))
        yield server


@contextmanager
def data_plane(folder: Path, store: str, name: str, *, tls: bool = False, h2c: bool = False) -> Iterator[Server]:
    """Just started, perhaps not answering yet."""
    clear, encrypted = free_ports(2)
    port = encrypted if tls else clear
    command = [sys.executable, "-m", "data_plane", "--store", store, "--listen", f"{HOST}:{clear}", "--workers", "1"]
    command += ["--tls-listen", f"{HOST}:{encrypted}"] if tls else []
    environment = {**os.environ, "WASPGATE_PROMETHEUS": f"{HOST}:0", "WASPGATE_CONTROL": f"{HOST}:0"}
    environment["WASPGATE_H2C"] = str(h2c).lower()
    with running(name, port, command, folder, environment, tls=tls) as server:
        yield server


@contextmanager
def admin_api(folder: Path, store: str) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "control_plane.cli.main", "control-plane"]
    command += ["--store", store, "--admin", f"{HOST}:{port}"]
    environment = {**os.environ, "WASPGATE_ADMIN_KEY": ADMIN_KEY}
    with running("admin", port, command, folder, environment) as server:
        server.await_answer("/apisix/admin/routes", status=401)
        yield server


def store_url(folder: Path, name: str) -> str:
    return f"sqlite://{folder / name}.db"


def fill(store: str, upstream_port: int, *, work: Work, routes: int) -> None:
    """Write the whole configuration to a store that is new."""
    asyncio.run(_fill(store, upstream_port, work, routes))


async def _fill(url: str, upstream_port: int, work: Work, routes: int) -> None:
    service: dict[str, Any] = {"upstream_id": "upstream"}
    async with open_store(url) as store:
        upstream = {"type": "roundrobin", "nodes": {f"{HOST}:{upstream_port}": 1}}
        await store.transaction((), [_put("upstreams", "upstream", upstream)])
        if work.tls:
            certificate = {"sni": "*", "cert": PAIR.cert, "key": PAIR.key}
            await store.transaction((), [_put("ssls", "bench", certificate)])
        if work.plugins:
            sha256 = await put_module(store, work.module())
            names = [f"bench-{number}" for number in range(work.plugins)]
            plugins = [_put("wasm_plugins", name, {"module": {"sha256": sha256}}) for name in names]
            await store.transaction((), plugins)
            service["plugins"] = {name: {"conf": "bench"} for name in names}
        await store.transaction((), [_put("services", "bench", service)])
        for first in range(0, routes, CHUNK):
            chunk = range(first, min(first + CHUNK, routes))
            await store.transaction((), [_put("routes", str(number), route(number)) for number in chunk])


def route(number: int) -> dict[str, Any]:
    return {"uri": uri(number), "service_id": "bench"}


def _put(kind: Kind, resource_id: str, document: dict[str, Any]) -> Put:
    return Put(resource_key(kind, resource_id), json.dumps({"id": resource_id, **document}).encode())
