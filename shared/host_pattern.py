"""What a route's `host` means: the text of the configuration turned into what the router looks up.

The law: a pattern that no Host could ever meet is refused here with a reason, by the schema and by the router alike. An
exact name is brought to the form in which the listener hands over hosts: lower case, no port, no final dot.

    foo.com       exactly this host
    *.foo.com     every host that ends with .foo.com
    *foo.com      every host that ends with foo.com, foo.com itself included
    *             every host
    [::1]         an IPv6 address, in the spelling that requests use
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

_LABELS = r"[0-9a-zA-Z_-]+(?:\.[0-9a-zA-Z_-]+)*"
_NAME = re.compile(rf"({_LABELS})\.?")
_WILDCARD = re.compile(rf"\*(?:(\.?{_LABELS})\.?)?")
_ADDRESS = re.compile(r"\[([0-9a-fA-F:.]+)\]")
_PORT = re.compile(r"(.+):[0-9]*")
# No DNS name is longer, and no listener takes one that is.
_LONGEST = 255
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`name` in lower case; a wildcard's name is what a host must end with (empty: any host)."""

    name: bytes
    wildcard: bool


def parse_hosts(hosts: Iterable[str]) -> tuple[HostPattern, ...]:
    """Two spellings of one pattern count once. Raises ValueError with the first reason."""
    return tuple(dict.fromkeys(parse_host(host) for host in hosts))


def parse_host(host: str) -> HostPattern:
    """Raises ValueError with the reason."""
    if len(host) > _LONGEST:
        raise ValueError(f'invalid host "{host[:_SHOWN]}...": longer than {_LONGEST} characters')
    pattern = _parse(host)
    if pattern is not None:
        return pattern
    port = _PORT.fullmatch(host)
    if port is not None and _parse(port[1]) is not None:
        raise ValueError(f'host "{host}" has a port: the port of a request is ignored, leave it out')
    raise ValueError(f'invalid host "{host}": expected a name, an address, "*", or a name that starts with "*"')


def _parse(host: str) -> HostPattern | None:
    name, wildcard, address = _NAME.fullmatch(host), _WILDCARD.fullmatch(host), _ADDRESS.fullmatch(host)
    if name is not None:
        return HostPattern(name[1].lower().encode(), wildcard=False)
    if wildcard is not None:
        return HostPattern((wildcard[1] or "").lower().encode(), wildcard=True)
    if address is not None and _is_ipv6(address[1]):
        return HostPattern(host.lower().encode(), wildcard=False)
    return None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
