"""The rows in which the workers of a host keep what health checks found, and those of a worker that shares with nobody.

The law: a row is a node of an upstream as its checks see it. Its key says which, its value in which state, with which counts,
and by which kind of check; a row that cannot be read is a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from data_plane.health.machine import Health, Target

Change = Callable[[bytes | None], tuple[bytes, bool]]

_SEPARATOR = "\0"
_HEAD_BYTES = 5
_BYTE = 255


@dataclass(frozen=True, slots=True)
class Place:
    """What is checked: `address` and `port` are connected to, `name` is the host that is asked for."""

    upstream: str
    address: str
    port: int
    name: str


class Rows(Protocol):
    """shared/proxy_wasm/state/health.py has those in LMDB."""

    def version(self) -> int:
        """Moves when others must read again."""

    def read(self) -> dict[bytes, bytes]: ...

    def change(self, key: bytes, change: Change) -> bytes | None:
        """The row as it is now; None when that could not be."""

    def keep(self, wanted: Mapping[bytes, bytes]) -> None:
        """Adds the rows that are missing and deletes all others."""

    def leads(self) -> bool:
        """Whether this worker probes."""


class LocalRows:
    """For one worker that shares with nobody."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._version = 0

    def version(self) -> int:
        return self._version

    def read(self) -> dict[bytes, bytes]:
        return dict(self._rows)

    def change(self, key: bytes, change: Change) -> bytes | None:
        after, heard = change(self._rows.get(key))
        self._rows[key] = after
        self._version += heard
        return after

    def keep(self, wanted: Mapping[bytes, bytes]) -> None:
        if self._rows.keys() != wanted.keys():
            self._rows = {key: self._rows.get(key, fresh) for key, fresh in wanted.items()}
            self._version += 1

    def leads(self) -> bool:
        return True


def key_of(place: Place) -> bytes:
    return _SEPARATOR.join((place.upstream, place.address, str(place.port), place.name)).encode()


def place_of(key: bytes) -> Place | None:
    """None for a key of another shape."""
    parts = key.decode("utf-8", "replace").split(_SEPARATOR)
    if len(parts) != 4 or not parts[2].isdecimal():
        return None
    return Place(parts[0], parts[1], int(parts[2]), parts[3])


def encode(target: Target, kind: str) -> bytes:
    return bytes((target.health, *(min(count, _BYTE) for count in target.counts))) + kind.encode()


def decode(row: bytes | None) -> tuple[Target, str]:
    """With the kind of check."""
    if row is None or len(row) < _HEAD_BYTES or row[0] > Health.UNHEALTHY:
        return Target(), ""
    return Target(Health(row[0]), (row[1], row[2], row[3], row[4])), row[_HEAD_BYTES:].decode("ascii", "replace")
