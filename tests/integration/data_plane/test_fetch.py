"""Calls of native plugins over real sockets: a URL in, a whole answer out, or a reason why there is none."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from data_plane.callout.fetching import Fetching
from data_plane.callout.service import CalloutService
from data_plane.callout.tls import client_context
from shared.plugin.host import Fetched, FetchFailed
from tests.support.gateway import HOST, LiveGateway, UpstreamSide, answering, ok, upstream
from tests.support.tls_server import TlsServer


class Caller:
    def __init__(self, gateway: LiveGateway, tls: Callable[..., ssl.SSLContext] = client_context) -> None:
        self._loop = gateway.gateway.loop
        self.service = gateway.ask(lambda: CalloutService(self._loop, gateway.gateway, tls))
        self.fetching = Fetching(self.service)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def begin(self, method: str, url: str, **options: Any) -> Future[Fetched]:  # noqa: ANN401 - as Host.fetch
        return self._run(self.fetching.fetch(method, url, **options))

    def fetch(self, url: str, method: str = "GET", **options: Any) -> Fetched:  # noqa: ANN401
        return self.begin(method, url, **options).result(10)

    def failure(self, url: str, **options: Any) -> str:  # noqa: ANN401
        with pytest.raises(FetchFailed) as failed:
            self.fetch(url, **options)
        return str(failed.value)

    def close(self) -> None:
        self._run(self.service.close()).result(10)


@pytest.fixture
def caller(gateway: LiveGateway) -> Iterator[Caller]:
    caller = Caller(gateway)
    yield caller
    caller.close()


def test_a_call_brings_an_answer_over_a_kept_connection(caller: Caller) -> None:
    with upstream(answering(ok(b"yes", b"X-User: ann", b"X-User: bob"))) as server:
        url = f"http://{HOST}:{server.port}/a?b=1"
        answer = caller.fetch(url, headers=(("X-A", "1"), ("Host", "other")))
        assert (answer.status, answer.body) == (200, b"yes")
        assert answer.headers[:2] == (("x-user", "ann"), ("x-user", "bob"))
        assert caller.fetch(url, method="POST", body=b"hello").status == 200
        authority = f"{HOST}:{server.port}".encode()
        assert server.received == (
            b"GET /a?b=1 HTTP/1.1\r\nHost: %b\r\nX-A: 1\r\n\r\n" % authority
            + b"POST /a?b=1 HTTP/1.1\r\nHost: %b\r\nContent-Length: 5\r\n\r\nhello" % authority
        )
        assert len(server.connections) == 1


def test_why_there_is_no_answer(caller: Caller) -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    assert caller.failure(f"http://{HOST}:{port}/") == "cannot connect"
    assert caller.failure("ftp://a/") == "expected a URL of http or https with a host and without a user"
    assert "not one that HTTP allows" in caller.failure(f"http://{HOST}:{port}/", headers=(("X-A", "1\r\nX-B: 2"),))
    with upstream(answering(ok(b"x" * 100))) as server:
        assert caller.failure(f"http://{HOST}:{server.port}/", max_body=99) == "the response is larger than the plugin holds"


def test_a_server_that_says_nothing(caller: Caller) -> None:
    def silent(side: UpstreamSide) -> None:
        side.head()
        side.wait_for_close()

    with upstream(silent) as server:
        assert caller.failure(f"http://{HOST}:{server.port}/", seconds=0.05) == "timed out"


def test_whoever_no_longer_waits_ends_the_call(caller: Caller) -> None:
    def silent(side: UpstreamSide) -> None:
        side.head()
        side.wait_for_close()

    with upstream(silent) as server:
        call = caller.begin("GET", f"http://{HOST}:{server.port}/")
        server.wait_for(b"\r\n\r\n")
        call.cancel()


def test_a_server_proves_its_name_unless_it_need_not(gateway: LiveGateway, tmp_path: Any) -> None:  # noqa: ANN401
    server = TlsServer(tmp_path / "tls")
    caller = Caller(gateway)
    try:
        url = f"https://{HOST}:{server.port}/"
        assert caller.failure(url) == "cannot connect"
        assert caller.fetch(url, verify=False).body == b"over TLS"
        assert caller.failure(url) == "cannot connect"
    finally:
        caller.close()
        server.close()
