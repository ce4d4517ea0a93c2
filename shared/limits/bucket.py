"""A leaky bucket: requests leave it at an even rate, and there is room for some that come too early.

The law: `excess` is how many requests are in the bucket beyond those that the time has let out; one that would lift it above
`burst` is refused and leaves the bucket as it was.
"""

from __future__ import annotations

from struct import Struct

# Expiry, when the bucket was looked at, the excess then.
_ROW = Struct("<ddd")


class LeakyBucket:
    """`rate` in requests a second."""

    __slots__ = ("_burst", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst

    def add(self, row: bytes | None, now: float) -> tuple[bytes | None, float | None]:
        """After how many seconds it is this request's turn; None: it is refused."""
        excess = 0.0
        if row is not None:
            _, last, held = _ROW.unpack(row)
            excess = max(0.0, held - self._rate * max(0.0, now - last) + 1)
            if excess > self._burst:
                return None, None
        # In so many seconds it is empty, and a new one says the same. One more, as a request may come at that moment.
        return _ROW.pack(now + (excess + 1) / self._rate, now, excess), excess / self._rate
