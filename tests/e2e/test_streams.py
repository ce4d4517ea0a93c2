"""TCP through a whole gateway: stream routes from the Admin API, plugins on connections, and a change while one is open."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import free_port, run, wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.guest import console
from tests.support.streams import echo, read_all, read_exactly, server
from tests.support.up import HOST, Up, waspgate_up


@pytest.fixture(scope="module")
def echoing() -> Iterator[int]:
    with server(echo) as port:
        yield port


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, echoing: int, port: int) -> Iterator[Up]:
    with waspgate_up(tmp_path_factory.mktemp("up"), echoing, WASPGATE_STREAM_LISTEN=f"{HOST}:{port}") as up:
        up.upload("console", console())
        yield up


def connect(port: int) -> socket.socket:
    client = socket.create_connection((HOST, port), 5)
    client.settimeout(5)
    return client


def asked(port: int, question: bytes) -> bytes:
    """What comes back until the end; nothing when the connection is refused."""
    try:
        with connect(port) as client:
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)
    except ConnectionError:
        return b""


def settle(up: Up, mark: str) -> None:
    """Until the worker serves everything written so far: writes are applied in their order."""
    plugins = {"console": {"conf": "request_headers reply 204 - %"}}
    up.put("routes/mark", {"uri": f"/{mark}", "upstream": up.upstream, "plugins": plugins})
    wait_until(lambda: up.get(f"/{mark}").status_code == 204, "the worker serves the last write")


def said(up: Up) -> list[str]:
    """The console plugin's lines on connections since the last call."""
    return [line["event"] for line in up.log() if line.get("plugin") == "console" and not line["event"].startswith("configure")]


def test_a_plugin_on_connections_and_a_change_while_one_is_open(up: Up, echoing: int, port: int) -> None:
    def route(script: str) -> dict[str, object]:
        return {
            "server_port": port,
            "upstream": {"nodes": {f"{HOST}:{echoing}": 1}, "scheme": "tcp"},
            "plugins": {"console": {"conf": script}},
        }

    assert asked(port, b"nobody serves this") == b""
    up.put("stream_routes/1", route("downstream_data#1 set_buffer 2 0 5 write"))
    wait_until(lambda: asked(port, b"hello world") == b"write world", "the route is served")
    up.log()
    with connect(port) as old:
        old.sendall(b"hello old")
        assert read_exactly(old, 9) == b"write old"
        up.put("stream_routes/1", route("upstream_data#1 set_buffer 3 0 5 READS"))
        wait_until(lambda: asked(port, b"hello world") == b"READS world", "the change is served")
        old.sendall(b"hello again")
        assert read_exactly(old, 11) == b"hello again"
        up.log()
    wait_until(lambda: "delete 1" in said(up), "the old plugin context is gone")


def test_one_plugin_serves_requests_and_connections(up: Up, echoing: int, port: int) -> None:
    plugins = {"console": {"conf": "new_connection property source%00address"}}
    up.put("stream_routes/1", {"upstream": {"nodes": {f"{HOST}:{echoing}": 1}}, "plugins": plugins})
    settle(up, "both")
    with connect(port) as client:
        address = ":".join(map(str, client.getsockname()))
        wait_until(lambda: f"property: OK {address}" in said(up), "the plugin knows the client")


def test_an_address_that_cannot_be_had(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        where = f"{HOST}:{taken.getsockname()[1]}"
        store = f"sqlite:///{tmp_path}/config.db"
        ended = run(["data-plane", "--store", store, "--listen", f"{HOST}:0", "--stream-listen", f"tls://{where}"], tmp_path)
    assert ended.returncode == 1
    assert f"cannot listen on tls://{where} (--stream-listen): Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_plugin_asks_another_service_before_it_lets_a_connection_go_on(up: Up, echoing: int, port: int) -> None:
    with upstream(answering(ok(b"granted"))) as service:
        script = (
            f"new_connection http_call {HOST}:{service.port} 5000 % % :method=GET :path=/may :authority=auth.test",
            "new_connection return 1",
            "downstream_data#1 return 1",
            # A plugin's first stream is context 2 in its VM.
            "http_call_response effective 2",
            "http_call_response continue 2",
        )
        up.upload("asking", console())
        plugins = {"asking": {"conf": "\n".join(script)}}
        up.put("stream_routes/1", {"upstream": {"nodes": {f"{HOST}:{echoing}": 1}}, "plugins": plugins})
        settle(up, "asking")
        with connect(port) as client:
            client.sendall(b"let me in")
            assert read_exactly(client, 9) == b"let me in"
        assert service.received.startswith(b"GET /may HTTP/1.1\r\n")
