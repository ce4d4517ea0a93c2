"""A set of networks that an address is looked up in.

The law: an IPv4 address in its IPv6 form (`::ffff:1.2.3.4`, as a socket for both kinds tells it) is the IPv4 address. A look-up
costs one step for each prefix length that occurs, however many networks there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def parse_network(text: str) -> Network:
    """An address is a network of one. Raises ValueError with the reason."""
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f'invalid address "{text}": expected an IPv4 or IPv6 address, or one with a prefix length') from error


# Clients come back; beyond this many the address is parsed again.
@lru_cache(maxsize=4096)
def _number(text: str) -> tuple[int, int] | None:
    """(version, the address as a number), or None for what is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


class AddressSet:
    __slots__ = ("_masks",)

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError with the first reason."""
        masks: dict[tuple[int, int], set[int]] = {}
        for text in texts:
            network = parse_network(text)
            if isinstance(network, IPv6Network) and network.prefixlen >= 96:
                mapped = network.network_address.ipv4_mapped
                network = IPv4Network((mapped, network.prefixlen - 96)) if mapped is not None else network
            masks.setdefault((network.version, int(network.netmask)), set()).add(int(network.network_address))
        self._masks = tuple((version, mask, frozenset(found)) for (version, mask), found in masks.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AddressSet) and sorted(self._shape()) == sorted(other._shape())

    def __hash__(self) -> int:
        return hash(frozenset(self._masks))

    def _shape(self) -> list[tuple[int, int, tuple[int, ...]]]:
        return [(version, mask, tuple(sorted(found))) for version, mask, found in self._masks]

    def __contains__(self, text: str) -> bool:
        """Whether one of the networks has the address; a text that is none is in no network."""
        parsed = _number(text)
        if parsed is None:
            return False
        version, number = parsed
        return any(kind == version and number & mask in found for kind, mask, found in self._masks)
