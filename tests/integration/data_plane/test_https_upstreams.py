"""Upstreams over TLS: whom the gateway believes, what it shows, which connections it keeps apart, and how bodies end."""

from __future__ import annotations

import ssl
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from data_plane.config.snapshot import Node, Route, Timeouts, Upstream
from data_plane.upstream_tls.client_tls import ClientTls
from data_plane.upstream_tls.contexts import ClientContexts
from tests.support.certificates import make_certificates
from tests.support.etcd import Certificates
from tests.support.gateway import HOST, LiveGateway, ScriptedUpstream, Turns, UpstreamSide, answering, ok, upstream
from tests.support.raw_http import client, took

Script = Callable[[UpstreamSide], None]
FAILED = "TLS with upstream failed"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


class Secured:
    """Makes scripts of servers that speak TLS; `names` are those that clients asked for."""

    def __init__(self, certificates: Certificates) -> None:
        self.names: list[str | None] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates.cert, certificates.key)
        self.context.load_verify_locations(certificates.ca)
        self.context.sni_callback = lambda connection, name, context: self.names.append(name)

    def __call__(self, script: Script) -> Script:
        def secured(side: UpstreamSide) -> None:
            side.socket = self.context.wrap_socket(side.socket, server_side=True)
            script(side)

        return secured


@pytest.fixture
def secured(certificates: Certificates) -> Secured:
    return Secured(certificates)


@pytest.fixture
def trusting(gateway: LiveGateway, certificates: Certificates) -> LiveGateway:
    contexts = ClientContexts(str(certificates.ca))
    gateway.ask(lambda: setattr(gateway.gateway.pool, "contexts", contexts))
    return gateway


def route_to(tls: ClientTls, *servers: ScriptedUpstream, host: str = "localhost", connect: float = 5) -> Route:
    def node(port: int) -> Node:
        return Node(host, port, 1, f"{host}:{port}".encode(), address=HOST, key=tls.key_for(f"{host}:{port}".encode(), host))

    picker = Turns()
    picker._nodes = [node(server.port) for server in servers]
    times = Timeouts(connect, 5, 5)
    return Route("1", "test", Upstream("test", picker, "https", timeouts=times, tls=tls), (), times)


def test_one_connection_for_requests_to_one_name(trusting: LiveGateway, secured: Secured) -> None:
    with upstream(secured(answering(ok()))) as server, client(trusting.port) as raw:
        trusting.route(route_to(ClientTls(), server))
        assert [raw.get().status for _ in range(3)] == [200] * 3
        assert len(server.connections) == 1
        # The operator's name for it, whatever the client's Host.
        assert secured.names == ["localhost"]
        trusting.route(route_to(ClientTls(server_name="127.0.0.1"), server))
        assert raw.get().status == 200
        trusting.route(route_to(ClientTls(verify=False), server))
        assert raw.get().status == 200
        assert len(server.connections) == 3


@pytest.mark.parametrize(
    ("tls", "host", "reason"),
    [
        (ClientTls(), "other.test", "Hostname mismatch"),
        (ClientTls(server_name="wrong.test"), "localhost", "Hostname mismatch"),
        (ClientTls(certificate_id="none"), "localhost", "no enabled ssls object of type client with the id none"),
        (ClientTls(certificate="nonsense", private_key="nonsense"), "localhost", "cannot be set up"),
    ],
)
def test_who_is_not_believed(trusting: LiveGateway, secured: Secured, tls: ClientTls, host: str, reason: str) -> None:
    with capture_logs() as logs, upstream(secured(answering(ok()))) as server, client(trusting.port) as raw:
        trusting.route(route_to(tls, server, host=host))
        assert raw.get().status == 502
        assert b"GET" not in server.received
    (line,) = [line for line in logs if line["event"] == FAILED]
    assert reason in line["reason"]


def test_without_the_authority_nobody_is_believed(gateway: LiveGateway, secured: Secured) -> None:
    with capture_logs() as logs, upstream(secured(answering(ok()))) as server, client(gateway.port) as raw:
        gateway.route(route_to(ClientTls(), server))
        assert raw.get().status == 502
    (line,) = [line for line in logs if line["event"] == FAILED]
    assert "the certificate is not accepted" in line["reason"]


def test_a_client_certificate(trusting: LiveGateway, secured: Secured, certificates: Certificates) -> None:
    secured.context.verify_mode = ssl.CERT_REQUIRED
    shown = ClientTls(certificate=certificates.cert.read_text(), private_key=certificates.key.read_text())
    with capture_logs() as logs, upstream(secured(answering(ok()))) as server, client(trusting.port) as raw:
        trusting.route(route_to(shown, server))
        assert raw.get().status == 200
        trusting.route(route_to(ClientTls(), server))
        # With TLS 1.3 the server says so behind the handshake: its reset may overtake the words, then the next try hears.
        refused: list[MutableMapping[str, Any]] = []
        for _ in range(20):
            assert raw.get().status == 502
            refused = [line for line in logs if line["event"] == FAILED]
            if refused:
                break
    line = refused[0]
    assert "certificate required" in line["reason"]
    assert (line["client_certificate"], line["server_name"]) == (False, "localhost")


def test_a_server_that_fails_the_handshake_is_passed_over(trusting: LiveGateway, secured: Secured) -> None:
    def plain(side: UpstreamSide) -> None:
        side.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        side.wait_for_close()

    with upstream(secured(answering(ok()))) as good, upstream(plain) as bad, client(trusting.port) as raw:
        trusting.route(route_to(ClientTls(), bad, good))
        assert [raw.get().status for _ in range(3)] == [200] * 3
        assert b"GET" not in bad.received


def test_a_server_that_is_silent_costs_the_connect_timeout(trusting: LiveGateway) -> None:
    def silent(side: UpstreamSide) -> None:
        side.wait_for_close()

    with upstream(silent) as server, client(trusting.port) as raw, took(0.2, 2):
        trusting.route(route_to(ClientTls(), server, connect=0.2))
        assert raw.get().status == 504


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "cut"])
def test_a_body_until_the_end_is_complete_only_when_tls_says_so(
    trusting: LiveGateway, secured: Secured, notified: bool
) -> None:
    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        assert isinstance(side.socket, ssl.SSLSocket)
        if notified:
            side.socket.unwrap()
        else:
            side.hang_up()

    with upstream(secured(script)) as server, client(trusting.port) as raw:
        trusting.route(route_to(ClientTls(), server))
        response = raw.get()
        assert (response.body, response.complete) == (b"half", notified)


def test_large_bodies_in_both_directions(trusting: LiveGateway, secured: Secured) -> None:
    body = bytes(range(256)) * 4096

    def script(side: UpstreamSide) -> None:
        side.head()
        assert side.body(len(body)) == body
        side.send(ok(body))

    with upstream(secured(script)) as server, client(trusting.port) as raw:
        trusting.route(route_to(ClientTls(), server))
        raw.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert raw.response().body == body


def test_connections_to_a_node_that_has_gone(trusting: LiveGateway, secured: Secured) -> None:
    with upstream(secured(answering(ok()))) as server, client(trusting.port) as raw:
        route = route_to(ClientTls(), server)
        assert route.upstream is not None
        node = route.upstream.picker.pick()
        assert node is not None
        trusting.route(route)
        assert [raw.get().status for _ in range(2)] == [200] * 2
        trusting.ask(lambda: trusting.gateway.pool.retire(node.key))
        trusting.until(lambda gateway: gateway.pool.open() == 0)
        # Should it come back, so do its connections.
        assert [raw.get().status for _ in range(2)] == [200] * 2
        assert len(server.connections) == 2
