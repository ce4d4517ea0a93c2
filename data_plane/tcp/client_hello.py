"""What a TLS ClientHello asks for, read from the first bytes of a connection without taking part in TLS.

The law: a reader says as soon as the bytes allow whether this is a ClientHello; it reads nothing behind the message, and
changes nothing: who passes the bytes on passes on what came.
Source: RFC 8446 sections 4.1.2 and 5.1 (the layout is that of TLS 1.0 to 1.3), RFC 6066 section 3 (server_name), RFC 7301
section 3.1 (application_layer_protocol_negotiation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# A hello with post-quantum keys and a long session ticket is some 3 KiB. nginx looks at 16 KiB at most.
MAX_HELLO = 16 * 1024
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
# RFC 8446 section 5.1: a record's payload is at most 2^14 bytes.
_MAX_RECORD = 1 << 14
_SERVER_NAME, _HOST_NAME, _ALPN = 0, 0, 16
_VERSION_AND_RANDOM = 34
_LONGEST_NAME = 255


class NotAClientHello(ValueError):
    """These bytes begin no TLS connection, or one whose first message makes no sense."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`name` in lower case without a final dot, empty when the client named no host; `protocols` are those of ALPN."""

    name: bytes = b""
    protocols: tuple[bytes, ...] = ()


def server_name(data: bytes) -> bytes | None:
    """As of `client_hello`."""
    hello = client_hello(data)
    return None if hello is None else hello.name


def client_hello(data: bytes) -> ClientHello | None:
    """None: more bytes are needed. Raises NotAClientHello."""
    message = _message(data)
    if message is None:
        if len(data) >= MAX_HELLO:
            raise NotAClientHello(f"no complete ClientHello in {len(data)} bytes")
        return None
    return _read(_Reader(message))


def _message(data: bytes) -> bytes | None:
    """The handshake message without its header, out of as many records as it needs."""
    message, at = b"", 0
    while True:
        if data[at : at + 1] not in (b"", b"\x16") or data[at + 1 : at + 2] not in (b"", b"\3"):
            raise NotAClientHello("not a TLS handshake record")
        if len(data) < at + _RECORD_HEADER:
            return None
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < size <= _MAX_RECORD:
            raise NotAClientHello(f"a record of {size} bytes")
        at += _RECORD_HEADER
        message += data[at : at + size]
        at += size
        if message[:1] not in (b"", b"\1"):
            raise NotAClientHello("the first message is no ClientHello")
        if len(message) >= _MESSAGE_HEADER:
            length = int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if length > MAX_HELLO:
                raise NotAClientHello(f"a ClientHello of {length} bytes")
            if len(message) >= _MESSAGE_HEADER + length:
                return message[_MESSAGE_HEADER : _MESSAGE_HEADER + length]
        if at > len(data):
            return None


class _Reader:
    """Consumes vectors: a length of so many bytes, then as many bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise NotAClientHello("a length that leads out of the ClientHello")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def _read(hello: _Reader) -> ClientHello:
    hello.take(_VERSION_AND_RANDOM)
    hello.vector(1)  # session id
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression methods
    if not hello:
        return ClientHello()  # a client of before extensions
    extensions = _Reader(hello.vector(2))
    name: bytes | None = None
    protocols: tuple[bytes, ...] = ()
    while extensions:
        kind, body = extensions.number(2), extensions.vector(2)
        # Of two server names OpenSSL makes an error; whoever takes no part in TLS counts the first.
        if kind == _SERVER_NAME and name is None:
            name = _host_name(_Reader(_Reader(body).vector(2)))
        elif kind == _ALPN:
            protocols = tuple(_protocols(_Reader(_Reader(body).vector(2))))
    return ClientHello(name or b"", protocols)


def _protocols(names: _Reader) -> Iterator[bytes]:
    while names:
        yield names.vector(1)


def _host_name(names: _Reader) -> bytes:
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            if not 0 < len(name) <= _LONGEST_NAME or not name.isascii() or b"\0" in name:
                raise NotAClientHello("a server name that is none")
            return name.lower().removesuffix(b".")
    return b""
