"""Properties of a client's TLS connection.

The law: they are what was negotiated and verified, never what a header claims; without TLS there are none, and of a certificate
only what it has. Of several names the first is told, as in Envoy.
Source: ABI reference, section "Property path and value encodings"; Envoy, "Attributes", connection attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class CertificateFacts(Protocol):
    """`subject` as in RFC 4514; `digest` is the SHA-256 of the DER form, in hexadecimal."""

    @property
    def subject(self) -> str: ...

    @property
    def dns_names(self) -> tuple[str, ...]: ...

    @property
    def uris(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...


class TlsFacts(Protocol):
    """`version` as in `TLSv1.3`; `server_name` is that of the ClientHello, empty for none; `peer` is verified."""

    @property
    def version(self) -> str: ...

    @property
    def server_name(self) -> bytes: ...

    @property
    def local(self) -> CertificateFacts | None: ...

    @property
    def peer(self) -> CertificateFacts | None: ...


def tls_of(facts: object) -> TlsFacts | None:
    """Not every kind of stream knows of TLS."""
    found: TlsFacts | None = getattr(facts, "tls", None)
    return found


def _version(facts: object) -> bytes | None:
    tls = tls_of(facts)
    return tls.version.encode() if tls else None


def _is_mutual(facts: object) -> bytes:
    tls = tls_of(facts)
    return b"\1" if tls is not None and tls.peer is not None else b"\0"


def _server_name(facts: object) -> bytes | None:
    """Also known to a TCP listener that looks into the ClientHello and takes no part in TLS."""
    tls = tls_of(facts)
    name: bytes = tls.server_name if tls else getattr(facts, "requested_server_name", b"")
    return name or None


def _of_certificate(side: str, read: Callable[[CertificateFacts], str | None]) -> Callable[[object], bytes | None]:
    def find(facts: object) -> bytes | None:
        tls = tls_of(facts)
        certificate: CertificateFacts | None = getattr(tls, side, None)
        value = read(certificate) if certificate is not None else None
        return value.encode() if value else None

    return find


def _first(names: tuple[str, ...]) -> str | None:
    return names[0] if names else None


def _certificate(side: str) -> dict[tuple[bytes, ...], Callable[[object], bytes | None]]:
    name = side.encode()
    return {
        (b"connection", b"subject_%b_certificate" % name): _of_certificate(side, lambda found: found.subject),
        (b"connection", b"dns_san_%b_certificate" % name): _of_certificate(side, lambda found: _first(found.dns_names)),
        (b"connection", b"uri_san_%b_certificate" % name): _of_certificate(side, lambda found: _first(found.uris)),
    }


TLS_PROPERTIES: dict[tuple[bytes, ...], Callable[[object], bytes | None]] = {
    (b"connection", b"mtls"): _is_mutual,
    (b"connection", b"tls_version"): _version,
    (b"connection", b"requested_server_name"): _server_name,
    (b"connection", b"sha256_peer_certificate_digest"): _of_certificate("peer", lambda found: found.digest),
    **_certificate("local"),
    **_certificate("peer"),
}
