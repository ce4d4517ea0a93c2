"""Whether the control plane can do its work, for probes: `/status` and `/status/ready` beside the Admin API, without a key.

The law: the answer says no more than yes or that the store is away, and however many ask, the store is asked once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import Response

from control_plane.errors import answer
from shared.store.contract import ConfigStore, StoreError

FRESH_SECONDS = 1.0
# A probe waits for some seconds at most.
STORE_SECONDS = 2.0

OK = {"status": "ok"}
NOT_READY = {"status": "error", "error": "the configuration store cannot be reached"}


class Status:
    def __init__(self, store: ConfigStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._asking = asyncio.Lock()
        self._ready = False
        self._fresh_until = float("-inf")

    def register(self, app: FastAPI) -> None:
        app.add_api_route("/status", self.alive, methods=["GET", "HEAD"], include_in_schema=False)
        app.add_api_route("/status/ready", self.ready, methods=["GET", "HEAD"], include_in_schema=False)

    async def alive(self) -> Response:
        return answer(200, OK)

    async def ready(self) -> Response:
        """503 while the store does not answer."""
        async with self._asking:
            if self._clock() >= self._fresh_until:
                self._ready = await self._reaches_store()
                self._fresh_until = self._clock() + FRESH_SECONDS
        return answer(200, OK) if self._ready else answer(503, NOT_READY)

    async def _reaches_store(self) -> bool:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self._store.revision()
        except (StoreError, TimeoutError):
            return False
        return True
