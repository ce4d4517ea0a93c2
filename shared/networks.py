"""Lists of addresses and networks, as an operator writes them: `10.0.0.0/8, 192.0.2.1, fd00::/8`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """With commas between them; raises ValueError with the reason."""
    return tuple(_network(part.strip()) for part in text.split(",") if part.strip())


def _network(text: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"expected an address such as 10.0.0.1 or a network such as 10.0.0.0/8, got {text!r}") from error
