"""TLS on the listener: whose certificate is shown to whom, who may connect, what may change meanwhile, what is refused."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_plane.http.limits import LINGER_IDLE_SECONDS
from data_plane.http.trust import Trust
from data_plane.tls import connection as tls_connection
from data_plane.tls.client import TlsClientConnection, TlsH2ClientConnection
from data_plane.tls.contexts import make_context
from data_plane.tls.listener import H2, HTTP_1
from shared.networks import parse_networks
from tests.support.gateway import LOOPS, ScriptedUpstream, UpstreamSide, answering, ok, route_to, upstream
from tests.support.raw_http import RawClient, Response, client
from tests.support.tls import Authority, LiveTlsGateway, Pair, live_tls_gateway, ssl_document, ssl_table, tls_client

AUTHORITY = Authority()
ONE, TWO, WILD = AUTHORITY.issue("one.test"), AUTHORITY.issue("two.test"), AUTHORITY.issue("*.wild.test")
CLIENTS = Authority("clients")
CLIENT = CLIENTS.issue("client.test", uri="spiffe://test/client")
GUARD = {"ca": CLIENTS.pem}
# Alerts of RFC 8446 section 6.
UNRECOGNIZED_NAME, DECODE_ERROR, INTERNAL_ERROR = 112, 50, 80


@pytest.fixture(params=list(LOOPS), scope="module")
def running_gateway(request: pytest.FixtureRequest) -> Iterator[LiveTlsGateway]:
    with live_tls_gateway(request.param) as live:
        yield live


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedUpstream]:
    with upstream(answering(ok(b"hello"))) as running:
        yield running


@pytest.fixture
def gateway(running_gateway: LiveTlsGateway, server: ScriptedUpstream) -> LiveTlsGateway:
    """With a route for everything, and certificates for one.test and two.test."""
    running_gateway.show(route_to(server.port), one=ssl_document(ONE, "one.test"), two=ssl_document(TWO, "two.test"))
    return running_gateway


def get(raw: RawClient, host: str, path: str = "/") -> Response:
    raw.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return raw.response()


def shown_to(gateway: LiveTlsGateway, name: str | None, context: ssl.SSLContext | None = None) -> bytes:
    """The certificate that a client of this name gets to see, in DER."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with tls_client(gateway.tls_port, context, name) as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        return raw.socket.getpeercert(binary_form=True) or b""


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert)


def alert_of(answer: bytes) -> int:
    assert answer[:1] == b"\x15", answer
    return answer[6]


def hello_for(name: str) -> bytes:
    """A ClientHello, as OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@contextmanager
def resuming(gateway: LiveTlsGateway, context: ssl.SSLContext, session: ssl.SSLSession | None) -> Iterator[ssl.SSLSocket]:
    """A connection for one.test that goes on with a session if it may, and has asked for something."""
    plain = socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=10)
    with context.wrap_socket(plain, server_hostname="one.test", session=session) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        yield tls


def h2_statuses(raw: RawClient, *hosts: str) -> list[int]:
    """What requests to these hosts are answered with, all over one connection."""
    h2 = H2Connection(H2Configuration(header_encoding=None))
    h2.initiate_connection()
    for number, host in enumerate(hosts):
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")]
        h2.send_headers(2 * number + 1, fields, end_stream=True)
    raw.send(h2.data_to_send())
    found: dict[int, int] = {}
    while len(found) < len(hosts):
        for event in h2.receive_data(raw.socket.recv(65536)):
            if isinstance(event, ResponseReceived):
                found[event.stream_id or 0] = int(dict(event.headers or ())[b":status"])
    return [found[stream] for stream in sorted(found)]


def last_request(server: ScriptedUpstream) -> bytes:
    head: bytes = bytes(server.received).split(b"GET ")[-1]
    return head


# --- what goes through


def test_requests_pass_over_one_connection(gateway: LiveTlsGateway, server: ScriptedUpstream) -> None:
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        for _ in range(3):
            assert get(raw, "one.test").body == b"hello"
    request = last_request(server)
    assert b"X-Forwarded-Proto: https\r\n" in request
    assert f"X-Forwarded-Port: {gateway.tls_port}\r\n".encode() in request


def test_a_hello_may_come_byte_by_byte_and_a_request_with_the_end_of_the_handshake(gateway: LiveTlsGateway) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = AUTHORITY.trusting().wrap_bio(incoming, outgoing, server_hostname="one.test")
    with client(gateway.tls_port) as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        for byte in outgoing.read():
            raw.send(bytes([byte]))
        while True:
            incoming.write(raw.socket.recv(65536))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        tls.write(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        raw.send(outgoing.read())
        answer = b""
        while not answer.endswith(b"hello"):
            incoming.write(raw.socket.recv(65536))
            try:
                answer += tls.read(65536)
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 3_000_000])
def test_bodies_of_any_size_pass_both_ways(running_gateway: LiveTlsGateway, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    def echo(side: UpstreamSide) -> None:
        while side.head():
            side.send(ok(side.body(size)))

    with upstream(echo) as server:
        running_gateway.show(route_to(server.port), one=ssl_document(ONE, "one.test"))
        with tls_client(running_gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            raw.send(b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
            assert raw.response().body == body


def test_a_response_until_close_ends_with_a_close_notify(running_gateway: LiveTlsGateway) -> None:
    with upstream(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it")) as server:
        # The upstream's script goes on until it is left.
        running_gateway.show(route_to(server.port), one=ssl_document(ONE, "one.test"))
        with tls_client(running_gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            assert isinstance(raw.socket, ssl.SSLSocket)
            # Or the end of TCP would do as well.
            raw.socket.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # not in the stubs
            raw.send(b"GET / HTTP/1.0\r\nHost: one.test\r\n\r\n")
            while not server.connections:
                pass
            server.wait_for(b"\r\n\r\n")
            server.connections[0].hang_up()
            assert raw.response().body == b"all of it"


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_websocket_lives_until_both_sides_have_ended(running_gateway: LiveTlsGateway, says_goodbye: bool) -> None:
    said = threading.Event()

    def script(side: UpstreamSide) -> None:
        side.head()
        side.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nglued")
        assert side.until(b"!") == b"hello!"
        side.send(b"and back")
        side.wait_for_close()
        assert said.wait(10)
        side.send(b"last words")

    with upstream(script) as server:
        route = replace(route_to(server.port), enable_websocket=True)
        running_gateway.show(route, one=ssl_document(ONE, "one.test"))
        with tls_client(running_gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n"
            raw.send(f"GET / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n".encode())
            assert raw.response().status == 101
            raw.send(b"hello!")
            raw.wait_for(b"gluedand back")
            assert isinstance(raw.socket, ssl.SSLSocket)
            # Ours has ended, the other's is still to come.
            raw.socket.setblocking(False)
            if says_goodbye:
                with suppress(ssl.SSLWantReadError):
                    raw.socket.unwrap()
            with socket.socket(fileno=socket.dup(raw.socket.fileno())) as below:
                below.shutdown(socket.SHUT_WR)
            said.set()
            raw.socket.settimeout(10)
            words = b""
            with suppress(ssl.SSLZeroReturnError):
                while part := raw.socket.recv(65536):
                    words += part
            assert words == b"last words"


def test_a_client_that_leaves_takes_its_connection_along(gateway: LiveTlsGateway) -> None:
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        get(raw, "one.test")
        gateway.until(lambda it: it.clients)
    gateway.until(lambda it: not it.clients)


# --- whose certificate


def test_the_name_chooses_the_certificate(gateway: LiveTlsGateway) -> None:
    assert shown_to(gateway, "one.test") == der(ONE)
    assert shown_to(gateway, "TWO.test") == der(TWO)


def test_a_name_without_a_certificate_gets_an_alert(gateway: LiveTlsGateway) -> None:
    for name in ("three.test", None):
        context = AUTHORITY.trusting()
        context.check_hostname = False
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"), tls_client(gateway.tls_port, context, name):
            pass


def test_exact_names_come_before_wildcards_and_wildcards_before_the_rest(gateway: LiveTlsGateway) -> None:
    gateway.show(a=ssl_document(TWO, "*"), b=ssl_document(WILD, "*.wild.test"), c=ssl_document(ONE, "one.wild.test"))
    assert shown_to(gateway, "one.wild.test") == der(ONE)
    assert shown_to(gateway, "x.wild.test") == der(WILD)
    # A wildcard is one label.
    assert shown_to(gateway, "y.x.wild.test") == der(TWO)
    assert shown_to(gateway, "wild.test") == der(TWO)
    assert shown_to(gateway, None) == der(TWO)


def test_of_several_certificates_the_client_gets_the_one_that_it_can_check(gateway: LiveTlsGateway) -> None:
    old = AUTHORITY.issue("one.test", rsa_bits=2048)
    gateway.show(one=ssl_document(ONE, "one.test", certs=[old.cert], keys=[old.key]))
    for ciphers, pair in (("ECDHE-ECDSA-AES128-GCM-SHA256", ONE), ("ECDHE-RSA-AES128-GCM-SHA256", old)):
        context = AUTHORITY.trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        assert shown_to(gateway, "one.test", context) == der(pair)


def test_versions_are_those_of_the_name(gateway: LiveTlsGateway) -> None:
    gateway.show(one=ssl_document(ONE, "one.test", ssl_protocols=["TLSv1.3"]), two=ssl_document(TWO, "two.test"))
    old = AUTHORITY.trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_client(gateway.tls_port, old, "two.test") as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        assert raw.socket.version() == "TLSv1.2"
        assert get(raw, "two.test").status == 200
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"), tls_client(gateway.tls_port, old, "one.test"):
        pass


def test_ciphers_may_be_chosen() -> None:
    ssls = ssl_table({"one": ssl_document(ONE, "one.test", ssl_protocols=["TLSv1.2"])})
    names = {cipher["name"] for cipher in make_context(ssls.all[0], (), "ECDHE-ECDSA-AES128-GCM-SHA256").get_ciphers()}
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in names
    assert not [name for name in names if "AES256-GCM-SHA384" in name and not name.startswith("TLS_")]


def test_http_1_is_agreed_on_with_clients_that_ask(gateway: LiveTlsGateway) -> None:
    with tls_client(gateway.tls_port, AUTHORITY.trusting(None, None, "h2", "http/1.1"), "one.test") as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        assert raw.socket.selected_alpn_protocol() == "http/1.1"


def test_alpn_chooses_who_speaks(server: ScriptedUpstream) -> None:
    class Other(TlsClientConnection):
        def data_received(self, data: bytes) -> None:
            self._transport.write(b"other:" + data)
            self._transport.close()

    with live_tls_gateway(speakers={"other": Other, HTTP_1: TlsClientConnection}) as gateway:
        gateway.show(route_to(server.port), one=ssl_document(ONE, "one.test"))
        with tls_client(gateway.tls_port, AUTHORITY.trusting(None, None, "http/1.1", "other"), "one.test") as raw:
            raw.send(b"hi")
            assert raw.rest() == b"other:hi"
        with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            assert get(raw, "one.test").status == 200


def test_a_client_that_offers_other_protocols_only_is_told_so(gateway: LiveTlsGateway) -> None:
    context = AUTHORITY.trusting(None, None, "imap", "ftp")
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"), tls_client(gateway.tls_port, context, "one.test"):
        pass


# --- change


def test_a_new_certificate_is_for_new_connections_and_old_ones_stay(gateway: LiveTlsGateway) -> None:
    other = AUTHORITY.issue("one.test")
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        assert get(raw, "one.test").status == 200
        gateway.show(one=ssl_document(other, "one.test"))
        assert get(raw, "one.test").status == 200
        assert shown_to(gateway, "one.test") == der(other)
        gateway.show()
        assert get(raw, "one.test").status == 200
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            shown_to(gateway, "one.test")


def test_a_session_is_resumed_until_its_certificate_changes(gateway: LiveTlsGateway) -> None:
    context = AUTHORITY.trusting()

    def resumes(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        with resuming(gateway, context, session) as tls:
            tls.recv(65536)
            return tls.session_reused, tls.session

    _, session = resumes(None)
    # Another object has changed, this one has not.
    before = gateway.gateway.snapshot
    gateway.ask(lambda: setattr(gateway.gateway, "snapshot", replace(before, revision=before.revision + 1)))
    assert resumes(session)[0]
    gateway.show(one=ssl_document(AUTHORITY.issue("one.test"), "one.test"))
    assert not resumes(session)[0]


# --- clients that show certificates


@pytest.fixture
def guarded(gateway: LiveTlsGateway) -> LiveTlsGateway:
    """one.test is for clients with certificates."""
    gateway.show(one=ssl_document(ONE, "one.test", client=GUARD), two=ssl_document(TWO, "two.test"))
    return gateway


def test_a_client_with_a_certificate_is_served(guarded: LiveTlsGateway, tmp_path: Path) -> None:
    with tls_client(guarded.tls_port, AUTHORITY.trusting(tmp_path, CLIENT), "one.test") as raw:
        assert get(raw, "one.test").status == 200
        session = guarded.ask(lambda: next(iter(guarded.gateway.clients)).tls)  # type: ignore[attr-defined]
    assert session.peer.subject == "CN=client.test"
    assert session.peer.dns_names == ("client.test",)
    assert session.peer.uris == ("spiffe://test/client",)
    assert session.peer.digest == hashlib.sha256(der(CLIENT)).hexdigest()
    assert session.local.subject == "CN=one.test"
    assert (session.version, session.server_name) == ("TLSv1.3", b"one.test")


@pytest.mark.parametrize("stranger", [None, Authority("nobody").issue("client.test"), CLIENTS.issue("late.test", days=0)])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_others_are_refused_in_the_handshake(
    guarded: LiveTlsGateway, tmp_path: Path, stranger: Pair | None, version: ssl.TLSVersion
) -> None:
    context = AUTHORITY.trusting(tmp_path, stranger)
    context.maximum_version = version
    # TLS 1.3 clients are done before the server has seen their certificates.
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)), tls_client(guarded.tls_port, context, "one.test") as raw:
        get(raw, "one.test")


def test_a_guarded_host_is_not_served_over_a_connection_for_another_name(guarded: LiveTlsGateway, tmp_path: Path) -> None:
    with tls_client(guarded.tls_port, AUTHORITY.trusting(tmp_path, CLIENT), "two.test") as raw:
        assert get(raw, "two.test").status == 200
        assert get(raw, "one.test").status == 421
    with tls_client(guarded.tls_port, AUTHORITY.trusting(tmp_path, CLIENT), "one.test") as raw:
        assert get(raw, "two.test").status == 200
        assert get(raw, "ONE.test.").status == 200


def test_one_guard_does_not_vouch_for_another(gateway: LiveTlsGateway, tmp_path: Path) -> None:
    other = {"ca": Authority("other clients").pem}
    one, two = ssl_document(ONE, "one.test", client=GUARD), ssl_document(TWO, "two.test", client=other)
    gateway.show(one=one, two=two, three=ssl_document(TWO, "three.test", client=GUARD))
    with tls_client(gateway.tls_port, AUTHORITY.trusting(tmp_path, CLIENT), "one.test") as raw:
        assert get(raw, "one.test").status == 200
        assert get(raw, "three.test").status == 200
        assert get(raw, "two.test").status == 421


def test_a_guarded_host_is_guarded_from_http_2_as_well(server: ScriptedUpstream, tmp_path: Path) -> None:
    with live_tls_gateway(speakers={H2: TlsH2ClientConnection, HTTP_1: TlsClientConnection}) as gateway:
        guarded = ssl_document(ONE, "one.test", client=GUARD)
        gateway.show(route_to(server.port), one=guarded, two=ssl_document(TWO, "two.test"))
        for name, statuses in (("two.test", [200, 421]), ("one.test", [200, 200])):
            context = AUTHORITY.trusting(tmp_path, CLIENT, "h2")
            with tls_client(gateway.tls_port, context, name) as raw:
                assert h2_statuses(raw, "two.test", "one.test") == statuses


def test_a_guard_that_comes_later_holds_for_connections_that_are_open(gateway: LiveTlsGateway) -> None:
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        assert get(raw, "one.test").status == 200
        gateway.show(one=ssl_document(ONE, "one.test", client=GUARD))
        assert get(raw, "one.test").status == 421


def test_some_paths_may_be_open_to_others(gateway: LiveTlsGateway, tmp_path: Path) -> None:
    guard = {**GUARD, "skip_mtls_uri_regex": ["^/open/"]}
    gateway.show(one=ssl_document(ONE, "one.test", client=guard))
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        assert get(raw, "one.test", "/open/x").status == 200
        # What is looked at is the path as it is routed.
        assert get(raw, "one.test", "/open/../x").status == 400
    with tls_client(gateway.tls_port, AUTHORITY.trusting(tmp_path, CLIENT), "one.test") as raw:
        assert get(raw, "one.test", "/x").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_chain_may_be_as_long_as_the_depth_says(gateway: LiveTlsGateway, tmp_path: Path, version: ssl.TLSVersion) -> None:
    between = Authority("between", CLIENTS)
    pair = between.issue("deep.test")
    context = AUTHORITY.trusting(tmp_path, pair)
    context.maximum_version = version
    for depth, status in ((0, 400), (1, 200)):
        gateway.show(one=ssl_document(ONE, "one.test", client={**GUARD, "depth": depth}))
        session = None
        for _ in range(2):
            # The second time the session is resumed, without a chain.
            with resuming(gateway, context, session) as tls:
                assert int(tls.recv(65536)[9:12]) == status
                session = tls.session


# --- who speaks no TLS, or badly


def test_plain_http_is_told_so(gateway: LiveTlsGateway) -> None:
    with client(gateway.tls_port) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        response = raw.response()
        assert response.status == 400
        assert b"HTTPS" in response.body
        assert raw.rest() == b""


@pytest.mark.parametrize("junk", [b"\0" * 100, b"\x16\x03\x01\xff\xff", b"hello\r\n", b"\x80\x2e\x01\x03\x01" + b"\0" * 44])
def test_junk_ends_the_connection(gateway: LiveTlsGateway, junk: bytes) -> None:
    with client(gateway.tls_port) as raw:
        raw.send(junk)
        answer = raw.rest()
        if junk[:1] == b"\x16":
            assert alert_of(answer) == DECODE_ERROR
        elif junk[:1] != b"h":
            assert answer == b""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_hello_that_is_anything_costs_its_own_connection_only(gateway: LiveTlsGateway, data: st.DataObject) -> None:
    """Bytes are changed, cut out and put in; whatever comes of it, the gateway's loop hears of no error (live_tls_gateway)."""
    hello = bytearray(hello_for("one.test"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(hello) - 1))
        hello[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with client(gateway.tls_port) as raw, suppress(ConnectionError):
        raw.send(bytes(hello) + data.draw(st.binary(max_size=20)))
        raw.socket.shutdown(socket.SHUT_WR)
        raw.rest()
    gateway.until(lambda it: not it.clients and not gateway.tls.handshaking)


def test_junk_behind_the_hello_ends_the_connection(gateway: LiveTlsGateway) -> None:
    with client(gateway.tls_port) as raw:
        raw.send(hello_for("one.test"))
        raw.wait_for(b"\x16")
        raw.send(b"\0" * 100)
        raw.rest()
    gateway.until(lambda it: not it.clients and not gateway.tls.handshaking)


def test_junk_in_an_open_connection_ends_it(gateway: LiveTlsGateway) -> None:
    with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        get(raw, "one.test")
        below = socket.socket(fileno=socket.dup(raw.socket.fileno()))
        with below:
            below.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            raw.socket.recv(1)
    gateway.until(lambda it: not it.clients)


def test_a_handshake_has_its_time(gateway: LiveTlsGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_connection, "HANDSHAKE_SECONDS", 0.2)
    for begin in (b"", hello_for("one.test")[:50], hello_for("one.test")):
        with client(gateway.tls_port) as raw:
            raw.send(begin)
            raw.rest()
    gateway.until(lambda _: not gateway.tls.handshaking)


def test_a_flood_of_handshakes_drives_out_its_oldest_and_nobody_else(
    gateway: LiveTlsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.gateway, "limit", 20)
    hello = hello_for("one.test")
    flood = [RawClient(gateway.tls_port) for _ in range(40)]
    try:
        for raw in flood:
            raw.send(hello)
        gateway.until(lambda _: gateway.tls.handshaking <= 10)
        for raw in flood[:20]:
            # Long before a handshake's time is over.
            raw.socket.settimeout(3)
            with suppress(ConnectionError):
                raw.rest()
        with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            assert get(raw, "one.test").status == 200
            assert gateway.ask(lambda: gateway.tls.handshaking) <= 10
    finally:
        for raw in flood:
            raw.socket.close()
    gateway.until(lambda it: not gateway.tls.handshaking and not it.clients)


def test_a_certificate_that_openssl_does_not_take_costs_its_own_name_only(gateway: LiveTlsGateway) -> None:
    table = gateway.gateway.snapshot.ssls
    broken = replace(table.all[0], pairs=((b"no certificate", b"no key"),))

    class Names:
        def match(self, name: bytes) -> object:
            return broken if name == b"broken.test" else table.names.match(name)

    snapshot = replace(gateway.gateway.snapshot, ssls=replace(table, names=Names()))  # type: ignore[arg-type]
    gateway.ask(lambda: setattr(gateway.gateway, "snapshot", snapshot))
    with client(gateway.tls_port) as raw:
        raw.send(hello_for("broken.test"))
        assert alert_of(raw.rest()) == INTERNAL_ERROR
    assert shown_to(gateway, "one.test") == der(ONE)


def test_a_refused_client_that_stays_is_cut_off(gateway: LiveTlsGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LINGER_IDLE_SECONDS > 1
    monkeypatch.setattr(tls_connection, "LINGER_IDLE_SECONDS", 0.1)
    with client(gateway.tls_port) as raw:
        raw.send(hello_for("three.test"))
        assert alert_of(raw.rest()) == UNRECOGNIZED_NAME
        gateway.until(lambda _: not gateway.tls.handshaking)


# --- who is the client


def test_behind_a_trusted_proxy_the_client_is_who_it_says(gateway: LiveTlsGateway, server: ScriptedUpstream) -> None:
    before = gateway.gateway.trust
    gateway.ask(lambda: setattr(gateway.gateway, "trust", Trust(parse_networks("127.0.0.0/8"))))
    try:
        with tls_client(gateway.tls_port, AUTHORITY.trusting(), "one.test") as raw:
            fields = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: who.test\r\n"
            raw.send(f"GET / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n".encode())
            raw.response()
            client_address = gateway.ask(lambda: next(iter(gateway.gateway.clients)).client_address)  # type: ignore[attr-defined]
    finally:
        gateway.ask(lambda: setattr(gateway.gateway, "trust", before))
    assert client_address == ("192.0.2.2", 0)
    request = last_request(server)
    assert b"X-Real-IP: 192.0.2.2\r\n" in request
    assert b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1\r\n" in request
    assert b"X-Forwarded-Proto: http\r\n" in request
    assert b"X-Forwarded-Host: who.test\r\n" in request
