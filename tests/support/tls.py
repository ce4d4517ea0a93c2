"""Certificates made in the process, and a live gateway that shows them.

The law: keys are made anew for each run and never leave the memory but for Python's ssl, which reads files.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from data_plane.config.snapshot import Route, Snapshot, SslTable
from data_plane.config.ssls import Ssls
from data_plane.config.tables import Tables
from data_plane.http.downstream import ClientConnection
from data_plane.http.listener import Gateway, listening_socket
from data_plane.http.proxied import ProxiedConnection, proxied
from data_plane.http.trust import Trust
from data_plane.tls.client import TlsClientConnection
from data_plane.tls.connection import TlsConnection
from data_plane.tls.listener import HTTP_1, Speaker, TlsGateway, serve_tls
from shared.networks import parse_networks
from shared.schema.common import Spec
from shared.schema.resources import validate
from shared.schema.ssl import SslSpec
from tests.support.gateway import HOST, LOOPS, LiveGateway, OneRoute, running
from tests.support.raw_http import RawClient

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """PEM texts; `cert` holds those of the authorities between as well."""

    cert: str
    key: str


class Authority:
    """Signs for anybody. An authority between has a `parent`."""

    def __init__(self, name: str = "test authority", parent: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        self._parent = parent
        self.certificate = _sign(self._name, self._key, parent or self, ca=True)

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    @property
    def chain(self) -> str:
        """The authorities between, the nearest first; the root is the peer's to know."""
        return "" if self._parent is None else self.pem + self._parent.chain

    def issue(self, *names: str, uri: str | None = None, rsa_bits: int = 0, days: int = 2) -> Pair:
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(_subject(names[0]), key, self, names=names, uri=uri, days=days)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(_pem(certificate) + self.chain, private.decode())

    def trusting(self, folder: Path | None = None, pair: Pair | None = None, *alpn: str) -> ssl.SSLContext:
        """A client that knows this authority, and shows the pair if it is asked."""
        context = ssl.create_default_context(cadata=self.pem)
        if pair is not None:
            assert folder is not None
            file = folder / f"{abs(hash(pair))}.pem"
            file.write_text(pair.cert + pair.key)
            context.load_cert_chain(file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _sign(
    subject: x509.Name,
    key: Key,
    issuer: Authority,
    *,
    names: Sequence[str] = (),
    uri: str | None = None,
    ca: bool = False,
    days: int = 2,
) -> x509.Certificate:
    now = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer._name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer._key.public_key())
    builder = builder.add_extension(authority, critical=False)
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    if uri is not None:
        alternatives.append(x509.UniformResourceIdentifier(uri))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer._key, hashes.SHA256())


def ssl_document(pair: Pair, *snis: str, **more: object) -> dict[str, Any]:
    return {"cert": pair.cert, "key": pair.key, "snis": list(snis), **more}


def ssl_table(documents: Mapping[str, dict[str, Any]], before: Ssls | None = None) -> SslTable:
    """As the compiler makes it out of documents by id."""

    class Held:
        def get(self, model: type[Spec], kind: str, resource_id: str) -> Spec | None:
            document = documents.get(resource_id)
            return None if document is None else validate(SslSpec, document)

    ssls = Ssls(cast(Tables, Held()))
    ssls.recompile(documents)
    return ssls.table


class LiveTlsGateway(LiveGateway):
    """Also listens for TLS, at `tls_port`."""

    speakers: Mapping[str, Speaker] = {HTTP_1: TlsClientConnection}
    # Connections begin with a header of the PROXY protocol; all of this machine is trusted.
    proxied = False

    async def start(self) -> None:
        clear, encrypted = self._connection, TlsConnection
        if self.proxied:
            self._connection = lambda gateway: ProxiedConnection(gateway, lambda: clear(gateway))
        await super().start()
        self.tls = TlsGateway(self.gateway, self.speakers)
        listener = listening_socket(HOST, 0)
        self.tls_port = listener.getsockname()[1]
        if self.proxied:
            self.gateway.trust = Trust(parse_networks("127.0.0.0/8"))
            self._tls_server = await serve_tls(self.tls, listener, proxied(self.gateway, encrypted))
        else:
            self._tls_server = await serve_tls(self.tls, listener)

    async def stop(self) -> None:
        self._tls_server.close()
        self.tls.close()
        await super().stop()
        assert not self.tls.handshaking

    def show(self, route: Route | None = None, **documents: dict[str, Any]) -> None:
        """From now on; without a route the one of before."""
        table = ssl_table(documents)

        def change(gateway: Gateway) -> None:
            before = gateway.snapshot
            router = before.router if route is None else OneRoute(route)
            gateway.snapshot = Snapshot(before.revision + 1, router, {}, ssls=table)

        self.ask(lambda: change(self.gateway))


@contextmanager
def live_tls_gateway(
    loop_name: str = "uvloop", speakers: Mapping[str, Speaker] | None = None, *, proxied: bool = False
) -> Iterator[LiveTlsGateway]:
    loop: asyncio.AbstractEventLoop = LOOPS[loop_name]()
    live = LiveTlsGateway(loop, cast(Callable[[Gateway], asyncio.Protocol], ClientConnection))
    live.proxied = proxied
    if speakers is not None:
        live.speakers = speakers
    with running(loop, live):
        yield live


@contextmanager
def tls_client(port: int, context: ssl.SSLContext, name: str | None) -> Iterator[RawClient]:
    """Its handshake is done; without a name neither SNI is sent nor the certificate's name looked at."""
    raw = RawClient(port)
    if name is None:
        context.check_hostname = False
    try:
        raw.socket = context.wrap_socket(raw.socket, server_hostname=name)
        yield raw
    finally:
        raw.socket.close()
