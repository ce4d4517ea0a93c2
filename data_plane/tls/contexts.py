"""From an ssls object to what OpenSSL needs of it: made at the first handshake that asks for it, kept as long as the object.

The law: a context never changes; connections that were made with one keep it when the configuration has another. What cannot
be made is a failed handshake and a line in the log, never the end of a worker.

Keys reach OpenSSL through anonymous memory: Python's ssl reads files only, and a key has no business on a disk.
"""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Sequence

from data_plane.config.snapshot import Ssl, SslTable

_VERSIONS = {
    "TLSv1.1": (ssl.TLSVersion.TLSv1_1, ssl.OP_NO_TLSv1_1),
    "TLSv1.2": (ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TLSv1_2),
    "TLSv1.3": (ssl.TLSVersion.TLSv1_3, ssl.OP_NO_TLSv1_3),
}
# TLS 1.1 signs with SHA-1, which OpenSSL takes at level 0 only.
_CIPHERS_OF_OLD = "DEFAULT:@SECLEVEL=0"


class Contexts:
    """By object; `alpn` are the protocols to offer, the best first. Without `ciphers` they are Python's choice."""

    def __init__(self, alpn: Sequence[str], ciphers: str = "") -> None:
        self._alpn = list(alpn)
        self._ciphers = ciphers
        self._table: SslTable | None = None
        self._made: dict[Ssl, ssl.SSLContext] = {}

    def get(self, table: SslTable, found: Ssl) -> ssl.SSLContext:
        """Raises ssl.SSLError or OSError when OpenSSL does not take the certificates."""
        if table is not self._table:
            self._table = table
            self._made = {kept: self._made[kept] for kept in table.all if kept in self._made}
        context = self._made.get(found)
        if context is None:
            context = self._made[found] = make_context(found, self._alpn, self._ciphers)
        return context


def make_context(found: Ssl, alpn: Sequence[str], ciphers: str = "") -> ssl.SSLContext:
    """Raises ssl.SSLError or OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    _limit_versions(context, found.protocols)
    if ciphers:
        context.set_ciphers(ciphers)
    for chain, key in found.pairs:
        _load(context, chain + b"\n" + key)
    if found.client is not None:
        context.load_verify_locations(cadata=found.client.ca)
        context.verify_mode = ssl.CERT_OPTIONAL if found.client.skip else ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _limit_versions(context: ssl.SSLContext, protocols: Sequence[str]) -> None:
    # Python warns of TLS 1.1; whoever configures it knows.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if protocols[0] == "TLSv1.1":
            context.set_ciphers(_CIPHERS_OF_OLD)
        context.minimum_version = _VERSIONS[protocols[0]][0]
        context.maximum_version = _VERSIONS[protocols[-1]][0]
        for name, (_, without) in _VERSIONS.items():
            if protocols[0] < name < protocols[-1] and name not in protocols:
                context.options |= without


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as memory:
            memory.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
