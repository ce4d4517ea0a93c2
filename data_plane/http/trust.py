"""Whose word about a client is taken: the addresses of the proxies in front of this gateway, and what they write.

The law: nobody is trusted who is not named. Of the addresses that a trusted peer passes on, the client is the last one that is
not trusted itself, as every element before it was written by somebody whom nobody vouches for; one that is no address ends the
search, and the peer that wrote it is the client.
Source: RFC 7239 section 5.2 and 6 (what an element may look like); nginx's realip module with `real_ip_recursive on`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from shared.networks import Network

# As many elements of a list are looked at; proxies in a row are fewer.
MOST_HOPS = 32

FORWARDED_FOR, REAL_IP = b"x-forwarded-for", b"x-real-ip"


class Trust:
    """`header` is the field that holds the client: X-Forwarded-For or X-Real-IP, in lower case."""

    __slots__ = ("header", "networks")

    def __init__(self, networks: Iterable[Network] = (), header: bytes = FORWARDED_FOR) -> None:
        self.networks = tuple(networks)
        self.header = header

    def __repr__(self) -> str:
        return f"<Trust {', '.join(map(str, self.networks)) or 'nobody'} header={self.header.decode()}>"

    def covers(self, address: str) -> bool:
        """Of an address as a socket has it."""
        if not self.networks:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self.networks)

    def client(self, peer: str, values: Iterable[bytes]) -> tuple[str, int]:
        """Who speaks through a trusted peer, by the values of `header`; the port is 0 where nobody says it."""
        elements = b",".join(values).split(b",")[-MOST_HOPS:]
        client = (peer, 0)
        for element in reversed(elements):
            named = parse_element(element.strip(b" \t"))
            if named is None:
                break
            client = named
            if not self.covers(client[0]):
                break
        return client


NOBODY = Trust()


def parse_element(text: bytes) -> tuple[str, int] | None:
    """`ADDRESS`, `ADDRESS:PORT`, `[IPv6]` or `[IPv6]:PORT`; None for anything else, such as `unknown`."""
    host, port = text.decode("latin-1"), ""
    if host.startswith("["):
        host, closed, rest = host[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
        return None
    try:
        return str(ip_address(host)), int(port or 0)
    except ValueError:
        return None
