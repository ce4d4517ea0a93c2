"""The fields that tell an upstream who the client is.

The law: X-Real-IP and X-Forwarded-Proto, -Host and -Port say what this gateway saw, whatever the client claimed; only
X-Forwarded-For is appended to, since its last element is then the peer of this gateway. A peer that is trusted (trust.py) is
believed: X-Real-IP is the client that it speaks for, and the other three pass where they make sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from data_plane.http.authority import AuthorityError, host_of
from data_plane.http.trust import FORWARDED_FOR, Trust

# Values of these fields as they came, by name in lower case.
Received = Mapping[bytes, list[bytes]]
NOTHING: Received = {}


class Client(Protocol):
    """The connection: `client_address` is who sent the request that was read last."""

    client_address: tuple[str, int]
    local_address: tuple[str, int]


class Forwarding:
    """One client connection's share of them."""

    __slots__ = ("_address", "_tail")

    def __init__(self, address: str, port: int, scheme: str = "http") -> None:
        self._address = address.encode()
        self._tail = f"\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Port: {port}\r\n".encode()

    def lines(self, authority: bytes, received: Received) -> bytes:
        """The field lines, each ended by CR LF, for a request with this Host and these fields."""
        host = b"X-Forwarded-Host: %b\r\n" % authority if authority else b""
        return b"X-Forwarded-For: %b%b%b" % (self._chain(received) if received else self._address, self._tail, host)

    def _chain(self, received: Received) -> bytes:
        return b", ".join([*(value for value in received.get(FORWARDED_FOR, ()) if value), self._address])


class TrustedForwarding(Forwarding):
    """Of a peer that is trusted; the connection's `client_address` follows its requests."""

    __slots__ = ("_client", "_peer", "_port", "_scheme", "_trust")

    def __init__(self, client: Client, scheme: str, trust: Trust) -> None:
        peer, port = client.client_address[0], client.local_address[1]
        super().__init__(peer, port, scheme)
        self._client = client
        self._peer = client.client_address
        self._port = b"%d" % port
        self._scheme = scheme.encode()
        self._trust = trust

    def lines(self, authority: bytes, received: Received) -> bytes:
        values = received.get(self._trust.header)
        address = self._peer if values is None else self._trust.client(self._peer[0], values)
        self._client.client_address = address
        proto = _one(received, b"x-forwarded-proto").lower()
        port = _one(received, b"x-forwarded-port")
        host = _one(received, b"x-forwarded-host")
        host = host if _is_authority(host) else authority
        return b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Port: %b\r\n%b" % (
            self._chain(received),
            address[0].encode(),
            proto if proto in (b"http", b"https") else self._scheme,
            port if port.isdigit() and int(port[:6]) <= 65535 else self._port,
            b"X-Forwarded-Host: %b\r\n" % host if host else b"",
        )


def forwarding_for(client: Client, scheme: str, trust: Trust) -> Forwarding:
    """For a connection that has just been made."""
    address = client.client_address[0]
    if trust.networks and trust.covers(address):
        return TrustedForwarding(client, scheme, trust)
    return Forwarding(address, client.local_address[1], scheme)


def _one(received: Received, name: bytes) -> bytes:
    """The value of a field that stands once."""
    values = received.get(name, ())
    return values[0] if len(values) == 1 else b""


def _is_authority(host: bytes) -> bool:
    try:
        return bool(host) and bool(host_of(host))
    except AuthorityError:
        return False
