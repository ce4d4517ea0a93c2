"""Probes against real servers, and what the workers of a host make of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.config.snapshot import Node
from data_plane.health import service as service_module
from data_plane.health.checks import CONNECTED, NO_HTTP, Probing, asking_of, compile_checks
from data_plane.health.probe import Finding, probe, request_of
from data_plane.health.rows import LocalRows, Rows
from data_plane.health.service import HealthService
from data_plane.health.watched import WatchedNodes
from data_plane.upstream_tls.client_tls import ClientTls
from data_plane.upstream_tls.contexts import ClientContexts
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.health import HealthTable
from shared.proxy_wasm.state.workers import Worker
from shared.schema.upstream import UpstreamSpec
from tests.support.certificates import make_certificates
from tests.support.config_source import eventually
from tests.support.etcd import Certificates
from tests.support.gateway import HOST, UpstreamSide, ok, upstream

NODES = {"nodes": {f"{HOST}:1": 1}}


def spec_of(active: dict[str, Any], **fields: object) -> UpstreamSpec:
    return UpstreamSpec.model_validate({**NODES, "checks": {"active": active}, **fields})


def probing_of(**active: object) -> Probing:
    checks = spec_of(active).checks
    assert checks is not None
    return compile_checks(checks).probing


async def no_context() -> ssl.SSLContext:
    raise AssertionError("there is no TLS here")


async def find(probing: Probing, port: int, host: str = "a.test") -> Finding:
    return await probe(probing, HOST, port, host, no_context)


def saying(answer: bytes) -> Callable[[UpstreamSide], None]:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(answer)

    return script


ANSWERS = {
    "a status": (ok(), 200),
    "another": (b"HTTP/1.0 503 No\r\n\r\n", 503),
    "no reason": (b"HTTP/1.1 404\r\n\r\n", 404),
    "no HTTP": (b"SSH-2.0-x\r\n", NO_HTTP),
    "four digits": (b"HTTP/1.1 2000 OK\r\n", NO_HTTP),
    "a line without an end": (b"HTTP/1.1 200 " + b"x" * 9000, NO_HTTP),
    "nothing": (b"", TCP_FAILURE),
}


@pytest.mark.parametrize(("answer", "outcome"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_what_a_server_answers(answer: bytes, outcome: int) -> None:
    with upstream(saying(answer)) as server:
        assert (await find(probing_of(), server.port)).outcome == outcome


async def test_silence_is_a_timeout_and_a_closed_port_is_none() -> None:
    def silent(side: UpstreamSide) -> None:
        side.wait_for_close()

    with upstream(silent) as server:
        assert (await find(probing_of(timeout=0.05), server.port)).outcome == TIMEOUT
        assert (await find(probing_of(type="tcp"), server.port)).outcome == CONNECTED
    refused = await find(probing_of(), server.port)
    assert refused.outcome == TCP_FAILURE
    assert "refused" in refused.reason.lower()


async def test_what_is_sent() -> None:
    active = {"http_path": "/up?x=1", "http_method": "POST", "http_req_body": "hi", "req_headers": ["X-A: b"]}
    with upstream(saying(ok())) as server:
        await find(probing_of(**active), server.port)
        assert (
            server.received
            == b"POST /up?x=1 HTTP/1.1\r\nConnection: close\r\nX-A: b\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi"
        )
    own_host = request_of(probing_of(req_headers=["host: b.test"]), "a.test")
    assert own_host.lower().count(b"host:") == 1


@pytest.mark.parametrize(
    ("fields", "active", "host"),
    [
        ({}, {}, "10.0.0.1:81"),
        ({}, {"host": "check.test"}, "check.test"),
        ({"pass_host": "node"}, {"host": "check.test"}, "10.0.0.1:81"),
        ({"pass_host": "rewrite", "upstream_host": "up.test"}, {"host": "check.test"}, "up.test"),
    ],
)
def test_who_is_asked_for(fields: dict[str, object], active: dict[str, object], host: str) -> None:
    node = Node("10.0.0.1", 81, 1, b"10.0.0.1:81")
    assert asking_of(spec_of(active, **fields)).host_of(node) == host


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    return context


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok())
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("verify", "trusted", "host", "outcome", "reason"),
    [
        (True, True, "localhost", 200, ""),
        (True, True, "other.test", TCP_FAILURE, "Hostname mismatch"),
        (True, False, "localhost", TCP_FAILURE, "unable to get local issuer"),
        (False, False, "other.test", 200, ""),
    ],
)
async def test_https(
    certificates: Certificates,
    secured: ssl.SSLContext,
    verify: bool,
    trusted: bool,
    host: str,
    outcome: int,
    reason: str,
) -> None:
    contexts = ClientContexts(str(certificates.ca) if trusted else None)
    async with tls_server(secured) as port:
        found = await probe(
            probing_of(type="https", timeout=10), HOST, port, host, lambda: contexts.get(ClientTls(verify=verify))
        )
    assert found.outcome == outcome
    assert reason in found.reason


def closed_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Watching:
    """A worker's checks of one upstream, with intervals of milliseconds."""

    def __init__(self, rows: Rows | None, *ports: int) -> None:
        self.service = HealthService(asyncio.get_running_loop(), rows, ClientContexts(), poll=0.005)
        self.nodes = tuple(Node(HOST, port, 1, f"{HOST}:{port}".encode()) for port in ports)
        self.down: set[int] = set()
        self.watched: WatchedNodes
        self.configure()

    def configure(self, **active: object) -> None:
        watched = self.service.health("upstream/1", spec_of(active))
        assert watched is not None
        self.watched = watched
        checks = watched.checks
        fast = replace(checks.probing, healthy_interval=0.01, unhealthy_interval=0.01)
        watched.update(replace(checks, probing=fast), watched.asking)
        watched.watch(self._changed)
        self._changed()
        self.service.settled()

    def _changed(self) -> None:
        self.down = {node.port for node in self.watched.unhealthy(self.nodes)}


async def test_nodes_that_fail_are_left_out_until_they_are_well() -> None:
    status = [b"200"]

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 %b X\r\n\r\n" % status[0])

    gone = closed_port()
    with upstream(script) as good:
        watching = Watching(None, good.port, gone)
        try:
            await eventually(lambda: watching.down == {gone})
            status[0] = b"503"
            await eventually(lambda: watching.down == {good.port, gone})
            status[0] = b"200"
            await eventually(lambda: watching.down == {gone})
            # What is known stays over a new version with other checks.
            watching.configure(http_path="/other")
            assert watching.down == {gone}
        finally:
            await watching.service.close()


async def test_one_worker_probes_for_all_and_another_takes_over(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "state")
    first, second = Worker(environment), Worker(environment)
    gone = closed_port()
    with upstream(saying(ok())) as good:
        one = Watching(HealthTable(environment, first), good.port, gone)
        two = Watching(HealthTable(environment, second), good.port, gone)
        try:
            await eventually(lambda: one.down == two.down == {gone})
            assert "probing=1" in repr(one.service)
            assert "probing=0" in repr(two.service)
            # A worker that comes knows it from the beginning.
            late = Watching(HealthTable(environment, second), good.port, gone)
            assert late.down == {gone}
            await late.service.close()
            await one.service.close()
            first.close()
            await eventually(lambda: "probing=1" in repr(two.service))
            seen = len(good.connections)
            await eventually(lambda: len(good.connections) > seen)
        finally:
            await two.service.close()
            second.close()
            environment.close()


async def test_an_upstream_that_goes_takes_its_rows_along() -> None:
    rows = LocalRows()
    with upstream(saying(ok())) as server:
        watching = Watching(rows, server.port)
        try:
            await eventually(rows.read)
            await eventually(lambda: server.connections)
            watching.service.forget("upstream/1")
            await eventually(lambda: not rows.read())
            assert "probing=0" in repr(watching.service)
        finally:
            await watching.service.close()


async def test_a_mistake_of_ours_is_said_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> Finding:
        raise RuntimeError("a bug")

    with upstream(saying(ok())) as server, capture_logs() as logs:
        watching = Watching(None, server.port)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(service_module, "probe", broken)
                await eventually(lambda: [line for line in logs if line["event"] == "probing an upstream failed"])
            await eventually(lambda: server.connections)
        finally:
            await watching.service.close()
