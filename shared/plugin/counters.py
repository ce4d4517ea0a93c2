"""Counters that all workers of a host share.

The law: they are rows (shared/limits/rows.py), kept in memory, each until it expires, and gone when the host starts anew.
"""

from __future__ import annotations

from shared.limits.rows import LimitsFailed as LimitsFailed
from shared.limits.rows import Rows as Counters
from shared.limits.rows import Step as Step

__all__ = ["Counters", "LimitsFailed", "Step"]
