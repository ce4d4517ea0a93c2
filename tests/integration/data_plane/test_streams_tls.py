"""TLS and TCP sessions: passed through by the name in the ClientHello, or spoken towards the upstream."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from data_plane.config.snapshot import StreamRoute, Timeouts
from data_plane.http import limits
from data_plane.routing.stream_router import StreamConditions, StreamEntry
from shared.host_pattern import parse_host
from tests.support.certificates import make_certificates
from tests.support.etcd import Certificates
from tests.support.streams import (
    LiveStreams,
    echo,
    entry,
    live_streams,
    read_all,
    read_exactly,
    reset,
    server,
    upstream_of,
)


@pytest.fixture(params=["uvloop", "asyncio"])
def live(request: pytest.FixtureRequest) -> Iterator[LiveStreams]:
    with live_streams(request.param) as live:
        yield live


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@contextmanager
def tls_server(
    certificates: Certificates,
    serve: Callable[[socket.socket], None],
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    context.load_cert_chain(certificates.cert, certificates.key)

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            serve(secure)

    with server(secured) as port:
        yield port


def saying(text: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.recv(1)

    return serve


def named(name: str, port: int) -> StreamEntry[StreamRoute]:
    return entry(upstream_of(port), id=name, conditions=StreamConditions(sni=parse_host(name)))


def secured(live: LiveStreams, name: str | None) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(live.connect(live.tls_port), server_hostname=name)


def test_a_connection_goes_where_its_server_name_says(live: LiveStreams, certificates: Certificates) -> None:
    """The gateway never decrypts: the certificate that the client sees is the upstream's own."""
    with (
        tls_server(certificates, saying(b"first")) as first,
        tls_server(certificates, saying(b"second")) as second,
        tls_server(certificates, saying(b"any")) as rest,
    ):
        live.serve(named("a.test", first), named("*.test", second), entry(upstream_of(rest), id="rest"))
        for name, said in (("a.test", b"first"), ("A.TEST", b"first"), ("b.a.test", b"second"), (None, b"any")):
            with secured(live, name) as client:
                assert read_exactly(client, len(said)) == said
                der = client.getpeercert(binary_form=True)
                assert der == ssl.PEM_cert_to_DER_cert(certificates.cert.read_text())


def test_a_hello_may_come_in_pieces(live: LiveStreams, certificates: Certificates) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    data = outgoing.read()
    with server(echo) as port:
        live.serve(named("a.test", port))
        with live.connect(live.tls_port) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (data[:3], data[3:90], data[90:]):
                client.sendall(piece)
                live.until(lambda streams: streams.connections)
            assert read_exactly(client, len(data)) == data


def test_what_is_no_tls_is_refused(live: LiveStreams) -> None:
    with server(echo) as port:
        live.serve(entry(upstream_of(port)))
        client = live.connect(live.tls_port)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with client, pytest.raises(ConnectionResetError):
            client.recv(1)
    assert live.streams.counters.refused == 1


def test_a_client_that_says_nothing_is_not_waited_for(live: LiveStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.1)
    with pytest.raises(ConnectionResetError), live.connect(live.tls_port) as client:
        client.recv(1)
    assert live.streams.counters.refused == 1


def test_a_client_that_leaves_before_its_hello(live: LiveStreams) -> None:
    with live.connect(live.tls_port) as client:
        client.sendall(b"\x16\3")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    reset(live.connect(live.tls_port))
    live.until(lambda streams: not streams.connections)


def test_a_server_name_is_only_seen_where_it_is_looked_for(live: LiveStreams) -> None:
    with server(echo) as port:
        live.serve(named("*", port))
        with pytest.raises(ConnectionResetError), live.connect() as client:
            client.recv(1)


# --- towards the upstream


def test_tls_is_spoken_to_the_upstream(live: LiveStreams, certificates: Certificates) -> None:
    with tls_server(certificates, echo) as port:
        live.serve(entry(upstream_of(port, tls=True)))
        with live.connect() as client:
            client.sendall(b"in plain text")
            assert read_exactly(client, 13) == b"in plain text"
        live.until(lambda streams: not streams.connections)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_end_of_one_side_is_passed_on_over_tls(
    live: LiveStreams, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    def serve(connection: socket.socket) -> None:
        heard = read_all(connection)
        connection.sendall(heard * 100_000)

    with tls_server(certificates, serve, version) as port:
        live.serve(entry(upstream_of(port, tls=True)))
        with live.connect() as client:
            client.sendall(b"all of it")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"all of it" * 100_000


def test_a_handshake_that_never_ends(live: LiveStreams) -> None:
    """The time for connecting counts for it too."""
    with server(lambda connection: (connection.recv(1 << 16), connection.recv(1), None)[2]) as port:
        live.serve(entry(upstream_of(port, tls=True, timeouts=Timeouts(0.2, 5, 5))))
        with pytest.raises(ConnectionResetError), live.connect() as client:
            client.recv(1)
    assert live.streams.counters.upstream_errors == 1


def test_an_upstream_with_tls_may_speak_and_end_first(live: LiveStreams, certificates: Certificates) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"x" * 300_000)

    with tls_server(certificates, serve) as port:
        live.serve(entry(upstream_of(port, tls=True)))
        with live.connect() as client:
            assert read_all(client) == b"x" * 300_000


def test_an_upstream_that_speaks_no_tls(live: LiveStreams) -> None:
    with server(echo) as port:
        live.serve(entry(upstream_of(port, tls=True)))
        with pytest.raises(ConnectionResetError), live.connect() as client:
            client.recv(1)
    assert live.streams.counters.upstream_errors == 1


def test_a_certificate_is_looked_at_when_it_shall_be(live: LiveStreams, certificates: Certificates) -> None:
    with tls_server(certificates, echo) as port:
        live.serve(entry(upstream_of(port, tls=True, verify=True)))
        with pytest.raises(ConnectionResetError), live.connect() as client:
            client.recv(1)
        live.trust(certificates.ca)
        with live.connect() as client:
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"
