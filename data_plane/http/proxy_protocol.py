"""The PROXY protocol, versions 1 and 2: who a connection comes from, said by the load balancer in front.

The law: a header is read as soon as it is complete, nothing behind it is; what does not begin as one is none.
Source: HAProxy, "The PROXY protocol, Versions 1 & 2", sections 2.1 and 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
# Section 2.1: the longest line, with its CR LF.
_LONGEST_LINE = 107
_V2_HEADER = 16
# Addresses take 36 bytes, or 216 for UNIX; the rest are extensions that nobody here reads.
_LONGEST_V2 = 4096
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21

Address = tuple[str, int]


class NotAProxyHeader(ValueError):
    """The connection does not begin with a header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """`size` bytes of the connection. Without addresses it is the balancer's own connection, such as a health check."""

    size: int
    source: Address | None = None
    destination: Address | None = None


def parse_header(data: bytes) -> ProxyHeader | None:
    """None: more bytes are needed. Raises NotAProxyHeader."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _binary(data)
    if data[: len(_V1)] == _V1[: len(data)]:
        return _line(data)
    raise NotAProxyHeader(f"begins with {data[:16]!r}")


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise NotAProxyHeader(f"no end of the line in {_LONGEST_LINE} bytes")
        return None
    size = end + 2
    words = data[len(_V1) : end].split(b" ")
    if words[0] == b"UNKNOWN":
        return ProxyHeader(size)
    if len(words) != 5 or words[0] not in (b"TCP4", b"TCP6"):
        raise NotAProxyHeader(f"expected TCP4 or TCP6, two addresses and two ports, got {data[:end]!r}")
    kind = IPv4Address if words[0] == b"TCP4" else IPv6Address
    try:
        source, destination = (str(kind(word.decode("ascii"))) for word in words[1:3])
    except ValueError as error:
        raise NotAProxyHeader(f"not an address: {error}") from error
    return ProxyHeader(size, (source, _port(words[3])), (destination, _port(words[4])))


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise NotAProxyHeader(f"not a port: {word!r}")
    return int(word)


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEADER:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:_V2_HEADER], "big")
    if command not in (_LOCAL, _PROXY):
        raise NotAProxyHeader(f"unknown version or command 0x{command:02x}")
    if length > _LONGEST_V2:
        raise NotAProxyHeader(f"a header of {length} bytes, expected at most {_LONGEST_V2}")
    size = _V2_HEADER + length
    if len(data) < size:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return ProxyHeader(size)
    return _addresses(data[_V2_HEADER:size], 4 if family == _TCP4 else 16, size)


def _addresses(block: bytes, width: int, size: int) -> ProxyHeader:
    if len(block) < 2 * width + 4:
        raise NotAProxyHeader(f"{len(block)} bytes of addresses, expected {2 * width + 4}")
    kind = IPv4Address if width == 4 else IPv6Address
    source, destination = kind(block[:width]), kind(block[width : 2 * width])
    ports = block[2 * width : 2 * width + 4]
    one, two = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
    return ProxyHeader(size, (str(source), one), (str(destination), two))
