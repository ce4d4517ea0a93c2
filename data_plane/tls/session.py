"""What is known of a client's TLS connection: for plugins, for upstreams, and for who may ask for what.

The law: a host whose certificate asks for clients' certificates is served to connections that were verified under the same
rule, and to no other, whichever name they were opened with: by the configuration of the moment of the request.
"""

from __future__ import annotations

import hashlib
import ssl
from functools import cached_property
from typing import TYPE_CHECKING

from cryptography import x509

if TYPE_CHECKING:
    from data_plane.config.snapshot import Ssl, SslTable


class Certificate:
    """Parsed when somebody asks."""

    def __init__(self, der: bytes) -> None:
        self.der = der

    @classmethod
    def from_pem(cls, chain: bytes) -> Certificate:
        """The first of a chain."""
        return cls(ssl.PEM_cert_to_DER_cert(_first(chain.decode())))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def subject(self) -> str:
        parsed = self._parsed
        return "" if parsed is None else parsed.subject.rfc4514_string()

    @cached_property
    def dns_names(self) -> tuple[str, ...]:
        return tuple(self._names(x509.DNSName))

    @cached_property
    def uris(self) -> tuple[str, ...]:
        return tuple(self._names(x509.UniformResourceIdentifier))

    @cached_property
    def _parsed(self) -> x509.Certificate | None:
        """OpenSSL takes some that nobody else can read."""
        try:
            return x509.load_der_x509_certificate(self.der)
        except ValueError:
            return None

    def _names(self, kind: type[x509.DNSName] | type[x509.UniformResourceIdentifier]) -> list[str]:
        if self._parsed is None:
            return []
        try:
            found = self._parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            return list(found.value.get_values_for_type(kind))
        except (x509.ExtensionNotFound, ValueError):
            return []


class TlsSession:
    """TlsFacts of an open connection. `rule` is the ssls object that it was opened with."""

    def __init__(self, rule: Ssl, version: str, server_name: bytes, peer: Certificate | None) -> None:
        self.rule = rule
        self.version = version
        self.server_name = server_name
        self.peer = peer

    def __repr__(self) -> str:
        return f"<TlsSession {self.version} {self.server_name.decode()!r} ssl={self.rule.id}>"

    @cached_property
    def local(self) -> Certificate | None:
        """With several certificates OpenSSL does not say which one it took."""
        return Certificate.from_pem(self.rule.pairs[0][0]) if len(self.rule.pairs) == 1 else None

    def refusal(self, table: SslTable, host: bytes, path: bytes) -> str | None:
        """Why a request may not be served over this connection: a kind of exchange/replies.py, or None.

        `host` in lower case without port, `path` normalised.
        """
        if not table.guards:
            return None
        found = table.names.match(host)
        if found is None or found.client is None:
            return None
        is_its_own = found.client == self.rule.client
        if is_its_own and self.peer is not None:
            return None
        text = path.decode("latin-1")
        if any(pattern.search(text) for pattern in found.client.skip):
            return None
        return "client_certificate_needed" if is_its_own else "misdirected"


def verified_peer(tls: ssl.SSLObject, depth: int, known: KnownPeers) -> Certificate | None:
    """The client's certificate if OpenSSL has verified it over a chain that is not too long."""
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    peer = Certificate(der)
    chain = _verified_chain(tls)
    if chain is None:
        # A resumed session has no chain any more: it must be one that was found good.
        return peer if peer.digest in known else None
    # The client's own and the authority do not count.
    if chain - 2 > depth:
        return None
    known.add(peer.digest)
    return peer


class KnownPeers:
    """Digests of certificates that were verified, the newest ones: as many as OpenSSL keeps sessions."""

    MOST = 20_480

    def __init__(self) -> None:
        self._digests: dict[str, None] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def add(self, digest: str) -> None:
        self._digests.pop(digest, None)
        self._digests[digest] = None
        if len(self._digests) > self.MOST:
            del self._digests[next(iter(self._digests))]


def _verified_chain(tls: ssl.SSLObject) -> int | None:
    """How many certificates; None for a resumed session. Python has this in public from 3.13 on only."""
    chain = tls._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # private in 3.11 and 3.12
    return None if chain is None else len(chain)


def _first(chain: str) -> str:
    end = ssl.PEM_FOOTER
    begin = chain.index(ssl.PEM_HEADER)
    return chain[begin : chain.index(end, begin) + len(end)]
