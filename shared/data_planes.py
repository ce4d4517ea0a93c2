"""What a worker says of itself in the store's registry, for the Admin API to read.

The law: an entry lives as long as its worker renews its lease. It says which revision the worker serves, so an entry at
revision R has everything that was written up to R; what it could not use of that is among its problems.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Final

from shared.keys import DATA_PLANE_PREFIX

# A worker that ends without a word is known to be gone after this.
LEASE_SECONDS: Final = 12
# Of the configuration's problems, beside those of what was written last: the rest is counted.
PROBLEMS_SHOWN: Final = 20
PROBLEM_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """`workers` is how many the data plane has by its settings. `started_at` is Unix time. `stale`: it serves what it had on
    disk, because the store has not answered since it started. `problems` are by store key."""

    host: str
    version: str
    listen: str
    workers: int
    worker: int
    pid: int
    started_at: float
    revision: int
    ready: bool
    stale: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    problems_total: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def data_plane_of(key: str) -> str | None:
    """The data plane that a key of the registry is about; None for a key that is about none."""
    data_plane, separator, _ = key.removeprefix(DATA_PLANE_PREFIX).partition("/")
    return data_plane if separator and key.startswith(DATA_PLANE_PREFIX) else None


def decode(value: bytes) -> WorkerEntry | None:
    """None for what another version wrote so differently that it cannot be read."""
    try:
        found: dict[str, Any] = json.loads(value)
        return WorkerEntry(**{name: found[name] for name in WorkerEntry.__slots__ if name in found})
    except (ValueError, TypeError, AttributeError):
        return None


def problems_shown(problems: Mapping[str, str], recent: Iterable[str]) -> dict[str, str]:
    """Those of the keys that were written last come first: somebody may wait for just these."""
    first = [key for key in dict.fromkeys(recent) if key in problems]
    shown = dict.fromkeys((*first, *islice(problems, PROBLEMS_SHOWN)))
    return {key: problems[key][:PROBLEM_LENGTH] for key in shown}
