"""The Admin API behind its real server: clients that leave, announce too much, or speak oddly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from control_plane.app import create_app
from shared.store.contract import ConfigStore
from tests.support.admin import KEY

HEAD = f"Host: a\r\nX-API-KEY: {KEY}\r\n"


@pytest.fixture
async def port(store: ConfigStore) -> AsyncIterator[int]:
    async with serving(store) as number:
        yield number


@asynccontextmanager
async def serving(store: ConfigStore) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(store, keys=[KEY]), log_config=None, server_header=False, lifespan="on")
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            yield listener.getsockname()[1]
            server.should_exit = True


async def exchange(port: int, request: str, *, leave: bool = False) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        await writer.drain()
        data = b"" if leave else await reader.read()
        writer.close()
        await writer.wait_closed()
    return data


async def test_one_server_header(port: int) -> None:
    answer = await exchange(port, f"GET /apisix/admin/routes HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")

    head = answer.lower().split(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"http/1.1 200 ok"
    assert [line for line in head if line.startswith(b"server:")] == [next(x for x in head if b"waspgate/" in x)]


async def test_a_client_that_leaves_in_the_middle_harms_nobody(port: int, store: ConfigStore) -> None:
    for _ in range(3):
        half = f'PUT /apisix/admin/upstreams/1 HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n{{"nodes":'
        await exchange(port, half, leave=True)
    answer = await exchange(port, f"GET /apisix/admin/upstreams HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")

    assert b'{"total":0,"list":[]}' in answer
    assert await store.get("/apisix/upstreams/1") is None


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("upstreams/1", 1_572_865, b"400"), ("wasm_plugins/p/module", 33_554_433, b"413"), ("upstreams/1", 10**30, b"400")],
)
async def test_an_announced_body_that_is_too_large_is_not_awaited(port: int, path: str, length: int, status: bytes) -> None:
    request = f"PUT /apisix/admin/{path} HTTP/1.1\r\n{HEAD}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    answer = await exchange(port, request)

    assert answer.split(b" ")[1] == status


async def test_a_request_that_is_no_http_is_refused_without_a_trace(port: int) -> None:
    answer = await exchange(port, "GET /\x00 HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer
