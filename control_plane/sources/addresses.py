"""Which addresses the control plane may fetch a module from.

The law: unless private sources are allowed, only addresses of the public Internet: whoever may write configuration must not be
able to make the control plane ask its own host, its neighbours, or the metadata service of its cloud.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from control_plane.sources.failure import SourceError

# RFC 6052 and RFC 8215: the last 32 bits are an IPv4 address that a translator would go to.
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
ALLOW = "--allow-private-module-sources"


def is_public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found.is_global and not found.is_multicast
    inner = _embedded(found)
    if inner:
        return all(one.is_global and not one.is_multicast for one in inner)
    # What is reserved or site-local counts as global in the library, and may mean this host or its site.
    return found.is_global and not (found.is_multicast or found.is_site_local or found.is_reserved)


def _embedded(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may lead to."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _TRANSLATED):
        found.append(IPv4Address(address.packed[-4:]))
    return [one for one in found if one is not None]


async def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The host's addresses. Raises SourceError when there is none, or when one of them is not allowed."""
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise SourceError(f"{host} cannot be resolved: {reason}") from error
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    private = [address for address in addresses if not allow_private and not is_public(address)]
    if private:
        # One is enough: a name with a public and a private address is how such a check is got round.
        raise SourceError(f"{host} has the address {private[0]}, which is not public; {ALLOW} allows it")
    return addresses
