"""How much memory the state may take, so that it never fills its map or its file system to the brim.

The law: what makes the state grow asks first and is refused beyond three quarters; what makes it shrink never asks. LMDB
writes a changed page anew before it frees the old one, so an environment that is quite full cannot even delete.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

# The rest is for pages that wait to be used again, for deleting, and for what other workers wrote since we looked.
_SHARE: Final = 0.75
# Looking costs 1 to 20 us, so it is done once for this much growth.
_LOOK_AGAIN_BYTES: Final = 64 * 1024
# What the smallest change costs: a few rows and its part of the pages that hold them.
_CHANGE_BYTES: Final = 256


def bytes_available(directory: Path) -> int | None:
    """What files may still take here; None when the file system sets no limit. A container's /dev/shm is often 64 MiB."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize if status.f_blocks else None


class Room:
    """`measure` tells the bytes in use; it is asked rarely, and whenever the answer decides."""

    __slots__ = ("_look_at", "_measure", "_used", "limit", "refusals")

    def __init__(self, size: int, measure: Callable[[], int]) -> None:
        self.limit = int(size * _SHARE)
        self._measure = measure
        self._used = 0
        self._look_at = 0
        self.refusals = 0

    def admits(self, growth: int) -> bool:
        growth += _CHANGE_BYTES
        if self._used + growth > min(self._look_at, self.limit):
            self._used = self._measure()
            self._look_at = self._used + _LOOK_AGAIN_BYTES
        if self._used + growth > self.limit:
            self.refusals += 1
            return False
        self._used += growth
        return True
