"""Clients of the cluster: so many requests a second through the one address, whatever happens behind it.

The law: requests begin on time, whether or not earlier ones have ended, so a standstill is seen in full; each is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

# One in so many may not be repeated by anybody.
POST_EVERY = 5
TIMEOUT_SECONDS = 30.0
BODY = b"x" * 2000


@dataclass(frozen=True, slots=True)
class Request:
    """Times are the loop's. `failure` is empty for a 200 with the whole answer."""

    method: str
    began: float
    ended: float
    failure: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Load:
    base_url: str
    rate: float
    requests: list[Request] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the block ends; then what is in flight is waited for."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        client = httpx.AsyncClient(base_url=self.base_url, timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False)
        async with client, asyncio.TaskGroup() as group:
            pace = group.create_task(self._begin_on_time(client, group))
            try:
                yield
            finally:
                pace.cancel()

    async def _begin_on_time(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        start, count = loop.time(), 0
        while True:
            group.create_task(self._ask(client, "GET" if count % POST_EVERY else "POST"))
            count += 1
            await asyncio.sleep(start + count / self.rate - loop.time())

    async def _ask(self, client: httpx.AsyncClient, method: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        failure = await _failure(client, method)
        self.requests.append(Request(method, began, loop.time(), failure))


async def _failure(client: httpx.AsyncClient, method: str) -> str:
    try:
        if method == "GET":
            response = await client.get("/hello")
        else:
            response = await client.post("/echo", content=BODY)
    except httpx.HTTPError as error:
        return f"{type(error).__name__} {error}".strip()
    if response.status_code != 200:
        return f"{response.status_code} {response.text.strip()[:100]}"
    whole = response.content == b"hello world\n" if method == "GET" else response.content.endswith(BODY)
    return "" if whole else "an answer that is not the upstream's"
