"""The Admin API over a real store of its own, as tests talk to it."""

from __future__ import annotations

import atexit
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

from control_plane.app import create_app
from control_plane.sandbox.sandbox import Sandbox
from control_plane.sources.sources import Sources
from shared.store.contract import ConfigStore

KEY = "test-admin-key"
NODES = {"nodes": {"127.0.0.1:1980": 1}}


@dataclass(frozen=True, slots=True)
class Admin:
    """Requests with the key; paths are relative to /apisix/admin."""

    app: FastAPI
    store: ConfigStore
    http: httpx.AsyncClient

    async def call(self, verb: str, path: str, body: object = None, content: bytes | None = None) -> httpx.Response:
        if body is None:
            return await self.http.request(verb, path, content=content)
        return await self.http.request(verb, path, json=body)

    async def ok(self, verb: str, path: str, body: object = None, content: bytes | None = None) -> dict[str, Any]:
        response = await self.call(verb, path, body, content)
        assert response.status_code in (200, 201), (response.status_code, response.text)
        answer: dict[str, Any] = response.json()
        return answer

    async def refused(self, status: int, verb: str, path: str, body: object = None, content: bytes | None = None) -> str:
        """The message of a refusal."""
        response = await self.call(verb, path, body, content)
        assert response.status_code == status, (response.status_code, response.text)
        answer = response.json()
        return str(answer.get("error_msg", answer.get("message")))

    async def upload(self, name: str, data: bytes) -> dict[str, Any]:
        return await self.ok("PUT", f"/wasm_plugins/{name}/module", content=data)


@cache
def shared_sandbox() -> Sandbox:
    """One for all tests: starting a process for each would take longer than they do."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


@asynccontextmanager
async def admin(
    store: ConfigStore,
    *,
    clock: Callable[[], float] = time.time,
    collect_seconds: float = 600.0,
    sandbox: Sandbox | None = None,
    sources: Sources | None = None,
) -> AsyncIterator[Admin]:
    tried_in = sandbox or shared_sandbox()
    app = create_app(store, keys=[KEY], clock=clock, collect_seconds=collect_seconds, sandbox=tried_in, sources=sources)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://admin/apisix/admin", headers={"X-API-KEY": KEY}) as client,
    ):
        yield Admin(app, store, client)
