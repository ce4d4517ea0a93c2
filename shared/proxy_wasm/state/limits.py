"""Rows that count for limits (shared/limits), shared by all workers of a host: counters of requests, buckets, gauges.

The law: a step runs inside a write transaction, so what many workers do at once comes out as if one had done it. Memory is
taken when the first row is wanted, all of it, and when it is full those rows go that would expire first. Nothing of it is
anybody's data: whoever loses a row counts anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from shared.limits.gauge import shares
from shared.limits.rows import EXPIRY, GONE, NEVER, LimitsFailed, Step
from shared.proxy_wasm.state.directory import LIMITS_FILE, HostStateError
from shared.proxy_wasm.state.environment import MAX_READERS
from shared.proxy_wasm.state.expiring import ExpiringRows
from shared.proxy_wasm.state.room import bytes_available
from shared.proxy_wasm.state.workers import Worker

T = TypeVar("T")

# Some 150,000 keys that count at once, at 150 bytes.
LIMIT_BYTES: Final = 32 << 20
# A container's memory is often 64 MiB; others need of it, too.
_SHARE_OF_AVAILABLE: Final = 0.25
_MIN_BYTES: Final = 1 << 20


class LimitRows:
    """Raises HostStateError when the memory is not there. `clock` tells monotonic seconds, the same in all workers."""

    __slots__ = ("_begin", "_clock", "_environment", "_rows", "_table", "_workers", "worker")

    def __init__(
        self, directory: Path, worker: Worker, size: int = LIMIT_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.worker = worker.number
        self._workers = worker
        self._clock = clock
        size = _size(directory, size)
        try:
            # With `writemap` a change takes 2.5 instead of 3.5 us, of 20,000 rows 3 instead of 5. It would be killed by SIGBUS
            # where memory runs out, so all of it is taken at once.
            self._environment = lmdb.open(
                str(directory / LIMITS_FILE),
                subdir=False,
                map_size=size,
                max_dbs=2,
                max_readers=MAX_READERS,
                max_spare_txns=1,
                mode=0o600,
                sync=False,
                metasync=False,
                readahead=False,
                writemap=True,
            )
            _reserve(directory / LIMITS_FILE, size)
            self._table = ExpiringRows(self._environment, size)
        except (lmdb.Error, OSError) as error:
            raise HostStateError(f"{directory}: counters of limits cannot be kept: {error}") from error
        self._begin = self._environment.begin
        self._rows = self._table.rows
        self._clear_the_dead()

    def change(self, key: bytes, step: Step[T]) -> T:
        now = self._clock()
        try:
            txn = self._begin(self._rows, None, True)
            try:
                before = txn.get(key)
                after, answer = step(before, now)
                if after is None:
                    txn.abort()
                    return answer
                if after == GONE:
                    txn.delete(key)
                elif before is None:
                    self._table.insert(txn, key, after, now)
                else:
                    txn.put(key, after)
                txn.commit()
            except BaseException:
                txn.abort()
                raise
        except lmdb.Error as error:
            raise LimitsFailed(str(error)) from error
        return answer

    def is_alive(self, worker: int) -> bool:
        return self._workers.is_known(worker)

    def _clear_the_dead(self) -> None:
        """Gauges that only dead workers have entered: nobody would look at them again."""
        with self._begin(self._rows, None, True) as txn, txn.cursor() as cursor:
            found = [(key, shares(row)) for key, row in cursor if EXPIRY.unpack_from(row)[0] == NEVER]
            for key, workers in found:
                if not any(self.is_alive(worker) for worker in workers):
                    txn.delete(key)

    def statistics(self) -> dict[str, int]:
        with self._begin() as txn:
            return self._table.statistics(txn)

    def close(self) -> None:
        with suppress(lmdb.Error):
            self._environment.reader_check()
        self._environment.close()

    def __repr__(self) -> str:
        counts = self.statistics()
        return f"<LimitRows rows={counts['rows']} pages={counts['pages']}/{counts['pages_limit']}>"


def _size(directory: Path, wanted: int) -> int:
    """Workers that come later find it made, and take it as it is."""
    path = directory / LIMITS_FILE
    with suppress(OSError):
        made = path.stat().st_size
        if made >= _MIN_BYTES:
            return made
    available = bytes_available(directory)
    size = wanted if available is None else min(wanted, int(available * _SHARE_OF_AVAILABLE))
    if size < _MIN_BYTES:
        raise HostStateError(f"{directory}: {available} bytes available, not enough for counters of limits")
    return size // _MIN_BYTES * _MIN_BYTES


def _reserve(path: Path, size: int) -> None:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)
