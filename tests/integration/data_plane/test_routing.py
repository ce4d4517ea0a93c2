"""Routes that ask for more than host, path and method, from the configuration to real requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.config import Config
from tests.support.gateway import HOST, LiveGateway, answering, live_gateway, ok, upstream
from tests.support.raw_http import client

ROUTES: dict[str, dict[str, object]] = {
    "1-arg": {"vars": [["arg_v", "==", "1"]]},
    "2-beta": {"vars": [["http_x_beta", "~~", "^y"]], "methods": ["GET"]},
    "3-form": {"vars": [["post_arg_kind", "==", "form"]], "methods": ["POST"]},
    "4-json": {"vars": [["post_arg.a.b", ">", 1]], "methods": ["POST"]},
    "5-far": {"remote_addr": "192.0.2.0/24"},
    "6-port": {"vars": [["server_port", "==", "1"]]},
    "7-rest": {"remote_addrs": ["127.0.0.0/8", "::1"]},
}
FORM, JSON = b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: application/json"


@pytest.fixture(scope="module")
def gateway() -> Iterator[LiveGateway]:
    """The body of a response is the id of the route."""
    config = Config()
    with live_gateway() as live:
        servers = [upstream(answering(ok(id.encode()))) for id in ROUTES]
        ports = [server.__enter__().port for server in servers]
        for (id, more), port in zip(ROUTES.items(), ports, strict=True):
            config.put("routes", id, {"uri": "/p", "upstream": {"nodes": {f"{HOST}:{port}": 1}}, **more})
        snapshot = config.commit()
        live.ask(lambda: setattr(live.gateway, "snapshot", snapshot))
        yield live
        for server in servers:
            server.__exit__(None, None, None)


def post(*lines: bytes, body: bytes) -> bytes:
    return b"".join([b"POST /p HTTP/1.1\r\nHost: t\r\n", *(line + b"\r\n" for line in lines), b"\r\n", body])


@pytest.mark.parametrize(
    ("request_bytes", "route"),
    [
        (b"GET /p?v=1 HTTP/1.1\r\nHost: t\r\n\r\n", b"1-arg"),
        (b"GET /p HTTP/1.1\r\nHost: t\r\nX-Beta: yes\r\n\r\n", b"2-beta"),
        (b"GET /p HTTP/1.1\r\nHost: t\r\n\r\n", b"7-rest"),
        (post(FORM, b"Content-Length: 9", body=b"kind=form"), b"3-form"),
        (post(FORM, b"Content-Length: 9", body=b"kind=else"), b"7-rest"),
        (post(JSON, b"Content-Length: 14", body=b'{"a":{"b": 2}}'), b"4-json"),
        (post(JSON, b"Transfer-Encoding: chunked", body=b'9\r\n{"a": {"b\r\n6\r\n": 2}}\r\n0\r\n\r\n'), b"4-json"),
        (post(b"Content-Length: 0", body=b""), b"7-rest"),
    ],
)
def test_the_request_decides(gateway: LiveGateway, request_bytes: bytes, route: bytes) -> None:
    with client(gateway.port) as raw:
        raw.send(request_bytes)
        assert raw.response().body == route
        # The connection goes on.
        assert raw.get(b"/p?v=1").body == b"1-arg"
