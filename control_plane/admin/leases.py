"""Leases that many keys share: what shall go some day, and need not go to the second.

The law: no key ends earlier than it was promised, and none later than a day after that.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.store.contract import ConfigStore

SHARED_SECONDS = 86_400


class Leases:
    __slots__ = ("_clock", "_store", "_taken")

    def __init__(self, store: ConfigStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        # Seconds -> the lease, and until when it is given to others.
        self._taken: dict[int, tuple[int, float]] = {}

    async def lasting(self, seconds: int) -> int:
        """A lease that ends no earlier than in so many seconds."""
        lease, until = self._taken.get(seconds, (0, 0.0))
        now = self._clock()
        if not lease or not until - SHARED_SECONDS <= now < until:
            lease = await self._store.grant_lease(seconds + SHARED_SECONDS)
            self._taken[seconds] = lease, now + SHARED_SECONDS
        return lease

    def forget(self) -> None:
        """They have gone, with the store that had them."""
        self._taken.clear()
