"""The fields that tell an upstream who the client is.

The law: X-Real-IP and X-Forwarded-Proto, -Host and -Port say what this gateway saw, whatever the client claimed; only
X-Forwarded-For is appended to, since its last element is then the peer of this gateway.
"""

from __future__ import annotations


class Forwarding:
    """One client connection's share of them."""

    __slots__ = ("_address", "_tail")

    def __init__(self, address: str, port: int, scheme: str = "http") -> None:
        self._address = address.encode()
        self._tail = f"\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Port: {port}\r\n".encode()

    def lines(self, authority: bytes, received_for: bytes) -> bytes:
        """The field lines, each ended by CR LF, for a request with this Host and X-Forwarded-For."""
        forwarded_for = received_for + b", " + self._address if received_for else self._address
        host = b"X-Forwarded-Host: %b\r\n" % authority if authority else b""
        return b"X-Forwarded-For: %b%b%b" % (forwarded_for, self._tail, host)
