"""Numbers that plugins count for the Prometheus page, summed over the workers of a host.

The law: a series is asked for once and kept. There is always one to add to: where the host takes no more label sets, it counts
for nobody, and the page says how many were turned away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Series(Protocol):
    def add(self, value: int) -> None:
        """To a counter, or a sample of a histogram; 0 or more."""


class Metrics(Protocol):
    """`family` is one that the gateway describes (data_plane/observe/families.py); `labels` in the order of the page."""

    def counter(self, family: str, labels: Mapping[str, str]) -> Series: ...

    def histogram(self, family: str, labels: Mapping[str, str]) -> Series: ...
