"""Counters that all workers of a host share."""

from __future__ import annotations

from typing import Protocol


class Counters(Protocol):
    """Kept in memory, and gone when the host starts anew."""
