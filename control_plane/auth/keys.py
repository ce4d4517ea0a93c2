"""Who may use the Admin API: named keys, and what each of them is for.

The law: in memory there are hashes only; which key was shown is found without saying, by the time that it takes, how near a
wrong one came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import ip_address
from typing import Literal

from control_plane.auth.hashing import digest, fast_digest, is_random, matches_slowly
from shared.keys import Kind
from shared.networks import Network

Role = Literal["admin", "viewer"]
# Of a viewer.
READING = frozenset({"GET", "HEAD", "OPTIONS"})
# What any key may read that is for some kinds only: what the resources are like, not what they are.
DESCRIPTIONS = frozenset({"schema", "plugins"})


@dataclass(frozen=True, slots=True)
class AdminKey:
    """`hash` as in hashing.py. `kinds`: the only ones that it is for; `addresses`: the only ones that it is good from."""

    name: str
    hash: str
    role: Role = "admin"
    kinds: frozenset[Kind] | None = None
    addresses: tuple[Network, ...] = ()

    def may_read_only(self, method: str) -> bool:
        return self.role == "viewer" and method not in READING

    def reaches(self, path: Sequence[str], method: str) -> bool:
        """`path` in its parts, below the Admin API's prefix. What concerns several kinds at once is for keys without limits."""
        if self.kinds is None:
            return True
        first = path[0] if path else ""
        return first in self.kinds or (first in DESCRIPTIONS and method in READING)

    def is_good_from(self, address: str) -> bool:
        return not self.addresses or is_within(address, self.addresses)


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """False for what is no address, such as the name of a Unix socket."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def unrestricted(key: str, name: str = "admin") -> AdminKey:
    """The one key of an installation. It is chosen or made by whoever starts the process and is its secret anyway, so its hash
    here is the fast one."""
    return AdminKey(name, f"sha256:{digest(key.encode()).hex()}")


class Keys:
    """All of them."""

    def __init__(self, keys: Sequence[AdminKey]) -> None:
        if not keys:
            raise ValueError("an admin key is needed")
        self._fast = [(found, key) for key in keys if (found := fast_digest(key.hash)) is not None]
        self._slow = [key for key in keys if fast_digest(key.hash) is None]
        # By their digests: chosen keys that were right.
        self._known: dict[bytes, AdminKey] = {}
        # One at a time, each takes 32 MiB.
        self._turn = asyncio.Lock()

    async def find(self, shown: bytes) -> AdminKey | None:
        found = self.find_fast(shown)
        if found is not None or not self._slow or is_random(shown):
            return found
        async with self._turn:
            for key in self._slow:
                if await asyncio.to_thread(matches_slowly, shown, key.hash):
                    self._known[digest(shown)] = key
                    return key
        return None

    def find_fast(self, shown: bytes) -> AdminKey | None:
        """Of random keys, and of chosen ones that were right before."""
        of_shown = digest(shown)
        matching = [key for known, key in self._fast if compare_digest(of_shown, known)]
        return matching[0] if matching else self._known.get(of_shown)
