"""The certificates of the snapshot, by the names that clients ask for.

The law: an object that a change did not touch stays the same object, and with it whatever a listener has made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from data_plane.config.identity import kept
from data_plane.config.snapshot import ClientAuth, Ssl, SslTable
from data_plane.config.tables import Tables
from data_plane.routing.server_names import ServerNames
from shared.schema.ssl import DEFAULT_PROTOCOLS, PROTOCOLS, ClientSpec, SslSpec
from shared.server_name import ServerNamePattern, parse_server_name


class Ssls:
    """`table` is replaced, never changed: the old one belongs to a snapshot."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._ssls: dict[str, tuple[tuple[ServerNamePattern, ...], Ssl]] = {}
        self._clients: dict[str, tuple[str, str]] = {}
        self.table = SslTable()

    def recompile(self, ssl_ids: Iterable[str]) -> None:
        changed = False
        for ssl_id in ssl_ids:
            before = self._ssls.pop(ssl_id, None)
            spec = self._tables.get(SslSpec, "ssls", ssl_id)
            if spec is not None and spec.status and spec.type == "server":
                ssl = kept(before[1] if before else None, _compile(ssl_id, spec))
                self._ssls[ssl_id] = (tuple(parse_server_name(name) for name in spec.names), ssl)
            changed = changed or before != self._ssls.get(ssl_id)
            shown = self._clients.pop(ssl_id, None)
            if spec is not None and spec.status and spec.type == "client":
                self._clients[ssl_id] = (spec.cert, spec.key)
            changed = changed or shown != self._clients.get(ssl_id)
        if changed:
            found = [self._ssls[ssl_id] for ssl_id in sorted(self._ssls)]
            ssls = tuple(ssl for _, ssl in found)
            self.table = SslTable(ServerNames(found), ssls, any(ssl.client for ssl in ssls), dict(self._clients))


def _compile(ssl_id: str, spec: SslSpec) -> Ssl:
    wanted = spec.ssl_protocols or DEFAULT_PROTOCOLS
    protocols = tuple(protocol for protocol in PROTOCOLS if protocol in wanted)
    pairs = tuple((cert.encode(), key.encode()) for cert, key in spec.pairs)
    return Ssl(ssl_id, pairs, protocols, None if spec.client is None else _client(spec.client))


def _client(spec: ClientSpec) -> ClientAuth:
    return ClientAuth(spec.ca, spec.depth, tuple(re.compile(text) for text in spec.skip_mtls_uri_regex or ()))
