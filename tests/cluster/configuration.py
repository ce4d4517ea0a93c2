"""The cluster's configuration, written through the one address of its control planes, and how far the workers are with it.

The law: a write is tried again until it is taken, as an operator would; it has arrived when every worker of every data plane
says that it serves its revision.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

import httpx

from tests.cluster.engine import Cluster, Container

T = TypeVar("T")

# How soon a server that says nothing is left out, and comes back.
CHECKS = {
    "active": {
        "type": "http",
        "http_path": "/hello",
        "timeout": 1,
        "healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "http_failures": 1, "tcp_failures": 1, "timeouts": 1},
    }
}
UPSTREAM = {
    "nodes": {"upstream-1:9099": 1, "upstream-2:9099": 1},
    "timeout": {"connect": 1, "send": 3, "read": 3},
    "retries": 2,
    "checks": CHECKS,
}
GREETING = {"header": "x-greeting", "value": "0", "reply_path": "/blocked", "reply_body": "no\n"}
DOCUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("upstreams/load", UPSTREAM),
    ("services/load", {"upstream_id": "load", "plugins": {"greeting": {"conf": GREETING}}}),
    ("routes/load", {"uris": ["/hello", "/echo"], "service_id": "load"}),
)
# For a write to be taken, and to be everywhere.
DEADLINE_SECONDS = 60.0
PAUSE_SECONDS = 0.2
WORKERS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/v1/workers', timeout=3).read().decode())"


class Configuration:
    def __init__(self, cluster: Cluster, client: httpx.AsyncClient) -> None:
        """`client` has the address and the key of the Admin API."""
        self._cluster = cluster
        self._client = client
        self.changes = 0

    async def put_example(self, module: bytes) -> None:
        wasm = {"content-type": "application/wasm"}
        await self._write("PUT", "wasm_plugins/greeting/module", content=module, headers=wasm)
        for path, document in DOCUMENTS:
            await self._write("PUT", path, json=document)

    async def change(self, but: Collection[Container] = ()) -> tuple[float, float]:
        """One value changes. Seconds until it was taken, and from then until every worker serves it, but those of `but`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.changes += 1
        value = str(self.changes)
        revision = await self._write("PATCH", "services/load/plugins/greeting/conf/value", json=value)
        taken = loop.time()
        ids = {container.id for container in but}
        for container in await self._cluster.containers("data-plane"):
            if container.id not in ids:
                await self._arrived(container, revision)
        return taken - began, loop.time() - taken

    async def admin_through(self, gateway: httpx.AsyncClient) -> int:
        """The status for somebody who has the key, and asks for the Admin API by a route that leads there."""
        document = {"uri": "/apisix/admin/*", "upstream": {"nodes": {"control-plane:9180": 1}}}
        revision = await self._write("PUT", "routes/door", json=document)
        for container in await self._cluster.containers("data-plane"):
            await self._arrived(container, revision)
        key = self._client.headers["x-api-key"]
        status = (await gateway.get("/apisix/admin/routes", headers={"x-api-key": key})).status_code
        await self._write("DELETE", "routes/door")
        return status

    async def _arrived(self, container: Container, revision: int) -> None:
        async def look() -> bool:
            workers = json.loads(await self._cluster.python(container, WORKERS))
            return all(worker["revision"] >= revision and not worker["problems"] for worker in workers) and bool(workers)

        await until(look, f"{container} serves revision {revision}")

    async def _write(self, method: str, path: str, **content: Any) -> int:  # noqa: ANN401
        """The revision of the write."""
        said = "nobody answered"

        async def taken() -> int | None:
            nonlocal said
            try:
                response = await self._client.request(method, path, **content)
            except httpx.HTTPError as error:
                said = repr(error)
                return None
            said = f"{response.status_code} {response.text.strip()[:300]}"
            return int(response.headers["x-waspgate-revision"]) if response.is_success else None

        return await until(taken, f"{method} {path} is taken", lambda: said)


async def until(
    look: Callable[[], Awaitable[T | None]], what: str, said: Callable[[], str] = str, seconds: float = DEADLINE_SECONDS
) -> T:
    """What it sees once it sees something."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (seen := await look()):
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what} ({said()})")
        await asyncio.sleep(PAUSE_SECONDS)
    return seen
