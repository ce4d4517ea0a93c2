"""So many in so much time: fixed and sliding windows.

The law: no more than `count` pass in a window, however many ask at once. A fixed window begins with the first request of a key.
A sliding one remembers how many passed in the window of the clock before this one, and takes them to have come evenly.
"""

from __future__ import annotations

from struct import Struct

# Expiry, how many have passed.
_FIXED = Struct("<dQ")
# Expiry, the window of the clock, how many have passed in it and in the one before.
_SLIDING = Struct("<dQQQ")
_fixed, _read_fixed = _FIXED.pack, _FIXED.unpack

# How many may still pass, below 0 when this one may not; in how many seconds the window ends.
Taken = tuple[int, float]


class FixedWindow:
    """`window` in seconds."""

    __slots__ = ("_count", "_window")

    def __init__(self, count: int, window: float) -> None:
        self._count = count
        self._window = window

    def take(self, row: bytes | None, now: float) -> tuple[bytes | None, Taken]:
        if row is not None:
            ends, passed = _read_fixed(row)
            if now < ends:
                if passed >= self._count:
                    return None, (-1, ends - now)
                passed += 1
                return _fixed(ends, passed), (self._count - passed, ends - now)
        return _fixed(now + self._window, 1), (self._count - 1, self._window)


class SlidingWindow:
    """`window` in seconds. What passed before counts by the part of it that the sliding window still covers."""

    __slots__ = ("_count", "_window")

    def __init__(self, count: int, window: float) -> None:
        self._count = count
        self._window = window

    def take(self, row: bytes | None, now: float) -> tuple[bytes | None, Taken]:
        number = int(now // self._window)
        left = self._window - now % self._window
        passed, before = self._known(row, number)
        covered = before * left / self._window
        if passed >= self._count:
            return None, (-1, left)
        if passed + covered + 1 > self._count:
            # When as many of the last window are out of sight as this one needs.
            return None, (-1, left - (self._count - passed - 1) * self._window / before)
        passed += 1
        expires = (number + 2) * self._window
        return _SLIDING.pack(expires, number, passed, before), (int(self._count - passed - covered), left)

    @staticmethod
    def _known(row: bytes | None, number: int) -> tuple[int, int]:
        """How many have passed in this window of the clock and in the one before."""
        if row is None:
            return 0, 0
        _, window, passed, before = _SLIDING.unpack(row)
        if window == number:
            return passed, before
        return 0, passed if window == number - 1 else 0
