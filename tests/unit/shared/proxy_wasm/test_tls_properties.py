"""What plugins may ask about a client's TLS connection, in both dialects."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from shared.proxy_wasm.nginx import Message, variable
from shared.proxy_wasm.properties import stream_property
from shared.proxy_wasm.tls_properties import TlsFacts
from tests.support.guest import Facts


@dataclass
class Certificate:
    subject: str = "CN=client,O=test"
    dns_names: tuple[str, ...] = ("client.test", "other.test")
    uris: tuple[str, ...] = ()
    digest: str = "ab12"


@dataclass
class Tls:
    version: str = "TLSv1.3"
    server_name: bytes = b"one.test"
    local: Certificate | None = None
    peer: Certificate | None = None


class TlsRequest(Facts):
    def __init__(self, tls: TlsFacts | None) -> None:
        super().__init__()
        self.tls = tls


CLEAR, ANONYMOUS, KNOWN = TlsRequest(None), TlsRequest(Tls()), TlsRequest(Tls(peer=Certificate(), local=Certificate("CN=us")))
PROPERTIES: list[tuple[str, bytes | None, bytes | None, bytes | None]] = [
    ("mtls", b"\0", b"\0", b"\1"),
    ("tls_version", None, b"TLSv1.3", b"TLSv1.3"),
    ("requested_server_name", None, b"one.test", b"one.test"),
    ("subject_peer_certificate", None, None, b"CN=client,O=test"),
    ("subject_local_certificate", None, None, b"CN=us"),
    ("dns_san_peer_certificate", None, None, b"client.test"),
    ("uri_san_peer_certificate", None, None, None),
    ("sha256_peer_certificate_digest", None, None, b"ab12"),
]


@pytest.mark.parametrize(("name", "clear", "anonymous", "known"), PROPERTIES)
def test_properties(name: str, clear: bytes | None, anonymous: bytes | None, known: bytes | None) -> None:
    path = (b"connection", name.encode())
    found = [stream_property(path, facts) for facts in (CLEAR, ANONYMOUS, KNOWN)]
    assert found == [clear, anonymous, known]


def test_a_stream_that_knows_nothing_of_tls() -> None:
    assert stream_property((b"connection", b"mtls"), Facts()) == b"\0"
    assert stream_property((b"connection", b"tls_version"), Facts()) is None


def test_without_a_server_name_there_is_none() -> None:
    assert stream_property((b"connection", b"requested_server_name"), TlsRequest(Tls(server_name=b""))) is None


VARIABLES = [
    ("https", b"", b"on", b"on"),
    ("ssl_protocol", b"", b"TLSv1.3", b"TLSv1.3"),
    ("ssl_server_name", b"", b"one.test", b"one.test"),
    ("ssl_client_s_dn", b"", b"", b"CN=client,O=test"),
    ("ssl_client_verify", b"", b"NONE", b"SUCCESS"),
]


@pytest.mark.parametrize(("name", "clear", "anonymous", "known"), VARIABLES)
def test_variables(name: str, clear: bytes, anonymous: bytes, known: bytes) -> None:
    found = [variable(name.encode(), Message(facts, (), ())) for facts in (CLEAR, ANONYMOUS, KNOWN)]
    assert found == [clear, anonymous, known]
