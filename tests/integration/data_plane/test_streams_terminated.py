"""TCP sessions whose TLS ends here: the certificate is the gateway's, the upstream gets what was inside."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_plane.config.snapshot import SslTable
from data_plane.routing.stream_router import StreamConditions
from shared.host_pattern import parse_host
from tests.support.gateway import LOOPS
from tests.support.streams import LiveStreams, echo, entry, live_streams, read_all, read_exactly, server, upstream_of
from tests.support.tls import Authority, ssl_document, ssl_table

AUTHORITY, CLIENTS = Authority(), Authority("clients")
ONE, TWO = AUTHORITY.issue("one.test"), AUTHORITY.issue("two.test")
CLIENT = CLIENTS.issue("client.test")
SSLS = ssl_table({"one": ssl_document(ONE, "one.test"), "two": ssl_document(TWO, "two.test")})


@pytest.fixture(params=list(LOOPS), scope="module")
def streams(request: pytest.FixtureRequest) -> Iterator[LiveStreams]:
    with live_streams(request.param) as live:
        yield live


def connect(streams: LiveStreams, name: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    return (context or AUTHORITY.trusting()).wrap_socket(streams.connect(streams.end_port), server_hostname=name)


def guarded(**more: object) -> SslTable:
    return ssl_table({"one": ssl_document(ONE, "one.test", client={"ca": CLIENTS.pem, **more})})


def test_what_is_inside_passes_both_ways(streams: LiveStreams) -> None:
    data = bytes(range(256)) * 4096
    with server(echo) as port:
        streams.serve(entry(upstream_of(port)), ssls=SSLS)
        with connect(streams, "one.test") as client:
            for _ in range(3):
                client.sendall(data)
                assert read_exactly(client, len(data)) == data
    streams.until(lambda it: not it.busy())


def test_each_side_ends_by_itself(streams: LiveStreams) -> None:
    def count(connection: socket.socket) -> None:
        connection.sendall(b"%d bytes" % len(read_all(connection)))

    with server(count) as port:
        streams.serve(entry(upstream_of(port)), ssls=SSLS)
        with connect(streams, "one.test") as client:
            client.sendall(b"x" * 100_000)
            with socket.socket(fileno=socket.dup(client.fileno())) as below:
                below.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"100000 bytes"


def test_the_name_chooses_the_route_and_the_certificate(streams: LiveStreams) -> None:
    with server(lambda it: it.sendall(b"one")) as one, server(lambda it: it.sendall(b"two")) as two:
        conditions = StreamConditions(sni=parse_host("two.test"))
        streams.serve(entry(upstream_of(one)), entry(upstream_of(two), id="2", conditions=conditions), ssls=SSLS)
        for name, pair in (("one.test", ONE), ("two.test", TWO)):
            with connect(streams, name) as client:
                assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.cert)
                assert read_all(client) == name[:3].encode()


def test_any_protocol_is_welcome(streams: LiveStreams) -> None:
    with server(echo) as port:
        streams.serve(entry(upstream_of(port)), ssls=SSLS)
        with connect(streams, "one.test", AUTHORITY.trusting(None, None, "mqtt")) as client:
            assert client.selected_alpn_protocol() is None
            client.sendall(b"hi")
            assert read_exactly(client, 2) == b"hi"


@pytest.mark.parametrize("more", [{}, {"skip_mtls_uri_regex": ["/"]}], ids=["required", "optional"])
def test_a_client_without_a_certificate_that_is_asked_for_is_let_in_nowhere(
    streams: LiveStreams, tmp_path: Path, more: dict[str, object]
) -> None:
    """There is no path that could be open to all."""
    with server(echo) as port:
        streams.serve(entry(upstream_of(port)), ssls=guarded(**more))
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)), connect(streams, "one.test") as client:
            read_exactly(client, 1)
        with connect(streams, "one.test", AUTHORITY.trusting(tmp_path, CLIENT)) as client:
            client.sendall(b"hi")
            assert read_exactly(client, 2) == b"hi"


def test_without_a_route_the_connection_ends(streams: LiveStreams) -> None:
    streams.serve(ssls=SSLS)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)), connect(streams, "one.test") as client:
        read_exactly(client, 1)
    streams.until(lambda it: not it.connections)
