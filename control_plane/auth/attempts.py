"""Wrong keys by the address that they came from, so that nobody can try many.

The law: an address has so many tries and gets one back every few seconds; memory is bounded, and what has been quiet longest is
forgotten first. Of IPv6 the network counts, as one subscriber has a whole /64.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

TRIES = 10
SECONDS_A_TRY = 6.0
MOST_ADDRESSES = 4096


class Attempts:
    """`clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Tries that were used up, as of a time.
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def wait(self, address: str) -> int:
        """Seconds until this address has a try again, 0 when it has one."""
        used = self._now(_network(address))
        return math.ceil((used - TRIES + 1) * SECONDS_A_TRY) if used > TRIES - 1 else 0

    def failed(self, address: str) -> None:
        network = _network(address)
        self._used[network] = (min(self._now(network) + 1, TRIES), self._clock())
        self._used.move_to_end(network)
        while len(self._used) > MOST_ADDRESSES:
            self._used.popitem(last=False)

    def _now(self, network: str) -> float:
        used, then = self._used.get(network, (0.0, 0.0))
        return max(used - (self._clock() - then) / SECONDS_A_TRY, 0.0)


def _network(address: str) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)
