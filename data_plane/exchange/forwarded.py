"""The fields that tell an upstream who the client is.

The law: X-Real-IP and X-Forwarded-Proto, -Host and -Port say what this gateway saw, whatever the client claimed; only
X-Forwarded-For is appended to, since its last element is then the peer of this gateway.
"""

from __future__ import annotations


class Forwarding:
    """One client connection's share of them. The lines of the last Host are kept: most connections use one."""

    __slots__ = ("_address", "_authority", "_lines", "_tail")

    def __init__(self, address: str, port: int, scheme: str = "http") -> None:
        self._address = address.encode()
        self._tail = f"\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Port: {port}\r\n".encode()
        self._authority: bytes | None = None
        self._lines = b""

    def lines(self, authority: bytes, received_for: bytes) -> bytes:
        """The field lines, each ended by CR LF, for a request with this Host and X-Forwarded-For."""
        if received_for:
            return self._build(authority, received_for + b", " + self._address)
        if authority != self._authority:
            self._authority = authority
            self._lines = self._build(authority, self._address)
        return self._lines

    def _build(self, authority: bytes, forwarded_for: bytes) -> bytes:
        host = b"X-Forwarded-Host: %b\r\n" % authority if authority else b""
        return b"X-Forwarded-For: %b%b%b" % (forwarded_for, self._tail, host)
