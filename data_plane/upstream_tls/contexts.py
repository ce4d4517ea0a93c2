"""The TLS contexts of connections to upstreams, one for all that are secured alike.

The law: a context is made beside the loop, for reading all authorities takes 20 ms, and once; what cannot be made is an OSError
that says why. Servers are verified by the system's authorities, or by those of the file that the gateway was given.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_plane.upstream_tls.client_tls import ClientTls

# Contexts with the system's authorities hold about 0.5 MiB each.
MOST_CONTEXTS = 256


class TlsMaterialError(OSError):
    """The certificate, its key or the authorities cannot be used."""


@dataclass(frozen=True, slots=True)
class _Key:
    verify: bool
    certificate: str
    private_key: str
    protocols: tuple[str, ...]


def no_certificates(ssl_id: str) -> tuple[str, str] | None:
    return None


class ClientContexts:
    """`authorities` is a PEM file; without one the system's count (or those of SSL_CERT_FILE). `find` has the certificates with
    their keys that are referred to, as of now."""

    def __init__(self, authorities: str | None = None, find: Callable[[str], tuple[str, str] | None] = no_certificates) -> None:
        self._authorities = authorities
        self._find = find
        self._contexts: OrderedDict[_Key, asyncio.Future[ssl.SSLContext]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ClientContexts {len(self._contexts)}>"

    async def get(self, tls: ClientTls, *protocols: str) -> ssl.SSLContext:
        """With the ALPN protocols to offer, if any."""
        key = _Key(tls.verify, *self._shown(tls), protocols)
        future = self._contexts.get(key)
        if future is None or (future.done() and (future.cancelled() or future.exception() is not None)):
            future = self._contexts[key] = asyncio.ensure_future(asyncio.to_thread(self._make, key))
            if len(self._contexts) > MOST_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(key)
        # One of several that wait for it may give up.
        return await asyncio.shield(future)

    def _shown(self, tls: ClientTls) -> tuple[str, str]:
        if not tls.certificate_id:
            return tls.certificate, tls.private_key
        found = self._find(tls.certificate_id)
        if found is None:
            raise TlsMaterialError(f"there is no enabled ssls object of type client with the id {tls.certificate_id}")
        return found

    def _make(self, key: _Key) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._authorities) if key.verify else _unverified()
            if key.protocols:
                context.set_alpn_protocols(list(key.protocols))
            if key.certificate:
                _load(context, key)
        except ssl.SSLError as error:
            raise TlsMaterialError(f"the TLS of an upstream cannot be set up: {error}") from error
        return context


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, key: _Key) -> None:
    """`ssl` reads certificates from files only: one that has no name, in memory, is enough for it."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "w", encoding="ascii", errors="replace") as file:
        file.write(f"{key.certificate.rstrip()}\n{key.private_key.rstrip()}\n")
        file.flush()
        # A key with a passphrase must fail instead of asking the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
