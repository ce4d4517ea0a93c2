"""The grammar of Host and of a target's authority (RFC 9112 section 3.2, RFC 3986 section 3.2).

The law: stricter than the RFC's reg-name, which allows commas and escapes that no DNS name has and that receivers read
differently: letters, digits, `.`, `-` and `_`, an IPv4 address, or a bracketed IPv6 address, and a port of 0 to 65535.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

_AUTHORITY = re.compile(rb"(?:([A-Za-z0-9._-]{1,255})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?")


class AuthorityError(ValueError):
    """Not a host with an optional port."""


# Bounded, as the keys are the peers' choice; a gateway serves far fewer names than this.
@lru_cache(maxsize=1024)
def host_of(authority: bytes) -> bytes:
    """The host in lower case, without port and final dot; an IPv6 address keeps its brackets."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise AuthorityError("not a host with an optional port")
    name, address, port = match.groups()
    if port is not None and int(port) > 65535:
        raise AuthorityError("port above 65535")
    if address is not None:
        try:
            IPv6Address(address.decode("ascii"))
        except AddressValueError as error:
            raise AuthorityError("not an IPv6 address") from error
        return b"[" + bytes(address).lower() + b"]"
    host = bytes(name).lower().removesuffix(b".")
    if not host or host.startswith(b".") or host.endswith(b".") or b".." in host:
        raise AuthorityError("an empty label")
    return host


def same_authority(one: bytes, other: bytes) -> bool:
    """Whether two valid http authorities mean the same, the default port being 80."""
    return host_of(one) == host_of(other) and _port(one) == _port(other)


def _port(authority: bytes) -> int:
    match = _AUTHORITY.fullmatch(authority)
    return int(match[3]) if match is not None and match[3] is not None else 80
