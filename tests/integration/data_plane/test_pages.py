"""The observer over real sockets: what comes in is bounded, what goes out is HTTP, and a taken port costs a page only."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from data_plane.observe import server as page_server
from data_plane.observe.observer import METRICS_PATH, Crew, Pages
from data_plane.observe.pulse import Pulses
from data_plane.observe.server import LocalNames, Page, PageServer, text
from tests.support.command import get, wait_until
from tests.support.data_plane import data_plane
from tests.support.gateway import HOST, UpstreamSide, answering, ok, upstream
from tests.support.raw_http import client


def echo(path: str) -> Page:
    if path == "/broken":
        raise RuntimeError("secret")
    return text(200, f"this is {path}")


@asynccontextmanager
async def serving(answers_to: Callable[[str], bool] | None = None) -> AsyncIterator[int]:
    listener = socket.create_server((HOST, 0))
    server = await PageServer(echo, answers_to).start(listener)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def ask(port: int, request: bytes) -> bytes:
    """The whole answer, to the end of the connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_pages_are_http() -> None:
    async with serving() as port:
        body = b"this is /a b\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(body)
        head += b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        assert await ask(port, b"GET /a%20b?x=y HTTP/1.1\r\nHost: a\r\n\r\n") == head + body
        assert await ask(port, b"HEAD /a%20b HTTP/1.0\r\n\r\n") == head


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", b"405"),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n", b"400"),
        (b"GET /broken HTTP/1.1\r\n\r\n", b"500"),
    ],
)
async def test_what_is_no_request_for_a_page(request_: bytes, status: bytes) -> None:
    async with serving() as port:
        answer = await ask(port, request_)
        assert answer.split(b" ")[:2] == [b"HTTP/1.1", status]
        assert b"secret" not in answer
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1:9090", b"200"),
        (b"[::1]:9090", b"200"),
        (b"10.0.0.7", b"200"),
        (b"localhost:9090", b"200"),
        (b"LOCALHOST.", b"200"),
        (b"gateway.localhost", b"200"),
        (b"data-plane:9090", b"200"),
        (b"evil.test:9090", b"403"),
        (b"127.0.0.1.evil.test", b"403"),
        (b"localhost.evil.test", b"403"),
        (b"data-plane.evil.test", b"403"),
        (b"localhost:x", b"403"),
        (b"", b"403"),
        (b"localhost\r\nHost: evil.test", b"403"),
    ],
)
async def test_the_control_api_answers_to_its_own_names(host: bytes, status: bytes) -> None:
    async with serving(LocalNames(frozenset({"data-plane"}))) as port:
        answer = await ask(port, b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        assert answer.split(b" ")[1] == status


async def test_a_client_that_says_nothing_or_half_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "HEAD_SECONDS", 0.05)
    async with serving() as port:
        assert await ask(port, b"") == b""
        assert await ask(port, b"GET / HTT") == b""


async def test_more_clients_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "MOST_CONNECTIONS", 1)
    async with serving() as port:
        _, idle = await asyncio.open_connection(HOST, port)
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        idle.close()


def test_a_state_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    pages = Pages(tmp_path / "state", Crew(Pulses(), []))
    assert (pages.prometheus(METRICS_PATH).status, pages.control("/v1/workers").status) == (503, 503)
    assert "state: " in json.loads(pages.control("/v1/workers").body)["error_msg"]
    (tmp_path / "state").unlink()
    assert pages.prometheus(METRICS_PATH).status == 200
    pages.close()


def test_a_taken_port_costs_a_page_and_no_traffic(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken, upstream(answering(ok())) as server:
        address = f"{HOST}:{taken.getsockname()[1]}"
        options = ("--prometheus", address, "--control", f"{HOST}:0")
        with data_plane(tmp_path, *options, serves=server.port) as gateway:
            gateway.ready(1)
            assert gateway.status() == 200
            said = f"cannot listen on {address} (--prometheus): Address already in use; going on without that page"
            assert len(gateway.events(said)) == 1
            (started,) = gateway.events("data plane is starting")
            assert "prometheus" not in started

            def ready() -> bool:
                connection = HTTPConnection(str(started["control"]), timeout=10)
                connection.request("GET", "/status/ready")
                answer = connection.getresponse()
                answer.read()
                connection.close()
                return answer.status == 200

            wait_until(ready, "the worker has reported")


def test_without_pages_there_is_no_observer(tmp_path: Path) -> None:
    with data_plane(tmp_path, "--prometheus", "", "--control", "") as gateway:
        wait_until(lambda: bool(gateway.events("data plane is starting")), "it is starting")
        wait_until(lambda: len(gateway.workers()) == 1, "its worker is there")
        (started,) = gateway.events("data plane is starting")
        assert not {"prometheus", "control"} & started.keys()


def test_the_pages_show_how_the_workers_drain(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(side: UpstreamSide) -> None:
        if side.head():
            asked.set()
            go_on.wait(20)
            side.send(ok(b"done"))

    with upstream(slow) as server, data_plane(tmp_path, "--control", f"{HOST}:0", serves=server.port) as gateway:
        gateway.ready(1)
        (started,) = gateway.events("data plane is starting")
        with client(gateway.port) as waiting:
            waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert asked.wait(20)
            gateway.process.terminate()
            wait_until(lambda: bool(gateway.events("draining")), "it drains")
            assert get(f"http://{started['control']}/status") is not None
            go_on.set()
            assert waiting.response().body == b"done"
        assert gateway.wait() == 0
