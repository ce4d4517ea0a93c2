"""The health check of the image, against the control plane's real server and a store that goes away."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest
import uvicorn

from control_plane import status
from control_plane.app import create_app
from shared.store.contract import ConfigStore, StoreUnavailable
from tests.support.admin import KEY

PROGRAM = Path(__file__).resolve().parents[3] / "deploy/healthcheck.py"


async def probe(port: int) -> tuple[int | None, str]:
    """Its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-IS", str(PROGRAM), str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().strip()


async def test_the_health_check_of_the_image(store: ConfigStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "FRESH_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(create_app(store, keys=[KEY]), log_config=None, server_header=False, lifespan="on")
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            assert await probe(port) == (0, '{"status":"ok"}')

            async def away() -> int:
                raise StoreUnavailable("nobody answers")

            monkeypatch.setattr(store, "revision", away)
            code, said = await probe(port)
            assert (code, "cannot be reached" in said) == (1, True)
            server.should_exit = True
    code, said = await probe(port)
    assert (code, "refused" in said) == (1, True)
