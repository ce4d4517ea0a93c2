"""How many are under way at once, over all workers of a host.

The law: a row says how many of each worker; those of a worker that has died do not count, and go when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from shared.limits.rows import EXPIRY, GONE, NEVER

_SHARE = Struct("<QQ")
_ALONE = Struct("<dQQ")
_HEAD = EXPIRY.pack(NEVER)


def shares(row: bytes | None) -> dict[int, int]:
    """Worker -> how many."""
    return {} if row is None else dict(_SHARE.iter_unpack(row[EXPIRY.size :]))


def _row(found: dict[int, int]) -> bytes:
    packed = [_SHARE.pack(worker, count) for worker, count in found.items() if count > 0]
    return _HEAD + b"".join(packed) if packed else GONE


class Gauge:
    """Of the worker with this number."""

    __slots__ = ("_is_alive", "_limit", "_worker")

    def __init__(self, limit: int, worker: int, is_alive: Callable[[int], bool]) -> None:
        self._limit = limit
        self._worker = worker
        self._is_alive = is_alive

    def enter(self, row: bytes | None, now: float) -> tuple[bytes | None, int | None]:
        """How many there are now; None: there are as many as there may be."""
        own = self._only_own(row)
        if own is not None:
            return (None, None) if own >= self._limit else (_ALONE.pack(NEVER, self._worker, own + 1), own + 1)
        found = self._living(row)
        total = sum(found.values())
        if total >= self._limit:
            return None, None
        found[self._worker] = found.get(self._worker, 0) + 1
        return _row(found), total + 1

    def leave(self, row: bytes | None, now: float) -> tuple[bytes | None, int]:
        """How many are left."""
        own = self._only_own(row)
        if own is not None:
            return (_ALONE.pack(NEVER, self._worker, own - 1), own - 1) if own > 1 else (GONE, 0)
        found = self._living(row)
        if self._worker in found:
            found[self._worker] -= 1
        return _row(found), sum(found.values())

    def _only_own(self, row: bytes | None) -> int | None:
        """How many, when they are all of this worker: most rows are so."""
        if row is None:
            return 0
        if len(row) == _ALONE.size:
            _, worker, count = _ALONE.unpack(row)
            if worker == self._worker:
                return int(count)
        return None

    def _living(self, row: bytes | None) -> dict[int, int]:
        found = shares(row)
        return {worker: count for worker, count in found.items() if worker == self._worker or self._is_alive(worker)}
