"""Calls of plugins in a real gateway: an upstream of the Admin API answers for a route, over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command import wait_until
from tests.support.gateway import ScriptedUpstream, UpstreamSide, ok, upstream
from tests.support.grpc_server import echo_server
from tests.support.guest import console
from tests.support.up import Up, waspgate_up

ASK = "http_call auth 5000 % % :method=GET :path=/check :authority=auth.test"


def script(side: UpstreamSide) -> None:
    """The one who is asked, and the routes' upstream, which answers with the head that reached it."""
    while head := side.head():
        side.send(ok(b"allowed" if head.startswith(b"GET /check ") else head))


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(script) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: ScriptedUpstream) -> Iterator[Up]:
    with waspgate_up(tmp_path_factory.mktemp("up"), server.port) as started:
        yield started


def route(up: Up, name: str, *commands: str) -> str:
    """With a plugin of its own, so that its first request is context 2."""
    up.upload(name, console())
    uri = f"/{name}"
    up.put(f"routes/{name}", {"uri": uri, "plugins": {name: {"conf": "\n".join(commands)}}, "upstream": up.upstream})
    up.settle()
    return uri


def said(up: Up, plugin: str, beginning: str) -> list[str]:
    lines: list[str] = []

    def found() -> bool:
        events = [line["event"] for line in up.log() if line.get("plugin") == plugin]
        lines.extend(event for event in events if event.startswith(beginning))
        return bool(lines)

    wait_until(found, f"{plugin} said {beginning!r}")
    return lines


def test_a_request_waits_for_an_upstream_that_the_admin_api_names(up: Up, server: ScriptedUpstream) -> None:
    up.put("upstreams/7", {"name": "auth", **up.upstream})
    uri = route(
        up,
        "waits",
        *(f"request_headers {ASK}", "request_headers return 1", "http_call_response effective 2"),
        *("http_call_response add 0 x-checked yes", "http_call_response continue 0"),
    )
    for _ in range(3):
        assert "x-checked: yes\r\n" in up.get(uri).text
    assert server.received.count(b"GET /check HTTP/1.1\r\nHost: auth.test\r\n\r\n") == 3


def test_a_renamed_upstream_is_no_longer_found(up: Up) -> None:
    up.put("upstreams/7", {"name": "auth", **up.upstream})
    uri = route(up, "asks", f"request_headers {ASK}", "request_headers reply 200 x asked")
    assert up.get(uri).text == "asked"
    assert said(up, "asks", "http_call: ") == ["http_call: OK 4"]
    up.put("upstreams/7", {"name": "renamed", **up.upstream})
    up.settle()
    assert up.get(uri).text == "asked"
    assert said(up, "asks", "http_call: ") == ["http_call: BAD_ARGUMENT"]


def test_a_grpc_service_is_an_upstream_too(up: Up) -> None:
    with echo_server() as service:
        up.put("upstreams/echo", {"nodes": {service.address: 1}})
        uri = route(
            up,
            "speaks-grpc",
            *("request_headers grpc_call echo test.Echo Upper 5000 hello x-a=1", "request_headers return 1"),
            *("grpc_receive effective 2", "grpc_receive buffer 5 0 99", "grpc_receive reply 200 x answered"),
        )
        assert up.get(uri).text == "answered"
        assert service.seen == ["Upper x-a=1 limited"]
    assert said(up, "speaks-grpc", "buffer: ") == ["buffer: OK HELLO"]
