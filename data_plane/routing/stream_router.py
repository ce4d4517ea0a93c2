"""Which stream route takes a connection.

The law: of the routes whose conditions all hold, the most specific one: an exact `sni` before a wildcard (the longer first)
before none, then one that names a port, then the smaller network of servers, then of clients; equals by id. As in APISIX a
wildcard covers several labels, and a route without `sni` takes connections with and without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Generic, TypeVar

from shared.host_pattern import HostPattern
from shared.schema.stream_route import Network

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamConditions:
    """None: it may be anything."""

    sni: HostPattern | None = None
    server_port: int | None = None
    server_addr: Network | None = None
    remote_addr: Network | None = None

    @property
    def rank(self) -> tuple[int, int, bool, int, int]:
        """The most specific is the least."""
        sni = (2, 0) if self.sni is None else (int(self.sni.wildcard), -len(self.sni.name))
        return *sni, self.server_port is None, _host_bits(self.server_addr), _host_bits(self.remote_addr)


@dataclass(frozen=True, slots=True)
class StreamEntry(Generic[T]):
    id: str
    conditions: StreamConditions
    target: T


class StreamRouter(Generic[T]):
    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[StreamEntry[T]] = ()) -> None:
        self._entries = sorted(entries, key=lambda entry: (entry.conditions.rank, entry.id))

    def match(self, remote_addr: str, server_addr: str, server_port: int, sni: bytes) -> T | None:
        remote, server = _address(remote_addr), _address(server_addr)
        for entry in self._entries:
            wanted = entry.conditions
            if (
                (wanted.sni is None or _is_named(wanted.sni, sni))
                and (wanted.server_port is None or wanted.server_port == server_port)
                and (wanted.server_addr is None or server in wanted.server_addr)
                and (wanted.remote_addr is None or remote in wanted.remote_addr)
            ):
                return entry.target
        return None


def _is_named(pattern: HostPattern, sni: bytes) -> bool:
    if pattern.wildcard:
        return bool(sni) and sni.endswith(pattern.name)
    return sni == pattern.name


def _address(text: str) -> object:
    """An IPv4 client of a socket that takes both kinds is what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _host_bits(network: Network | None) -> int:
    """How large it is; everything is larger than any network."""
    return 129 if network is None else network.max_prefixlen - network.prefixlen
