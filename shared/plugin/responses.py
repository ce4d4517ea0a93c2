"""Zones in which responses are kept, shared by all workers of a host.

The law: a zone is of bounded size; when it is full those go that would expire first. A row begins with the Unix time at which
it expires (shared/limits/rows.py: EXPIRY); it may be there for a while after that.
"""

from __future__ import annotations

from typing import Protocol

from shared.unavailable import Unavailable


class ZoneFailed(Unavailable):
    """The zone cannot be used."""


class Zone(Protocol):
    """Keys are of up to 100 bytes."""

    def get(self, key: bytes) -> bytes | None:
        """Raises ZoneFailed."""

    def put(self, key: bytes, row: bytes) -> bool:
        """Whether there was room. Raises ZoneFailed."""

    def purge(self, prefix: bytes) -> int:
        """Delete the rows whose keys begin so; how many they were. Raises ZoneFailed."""
