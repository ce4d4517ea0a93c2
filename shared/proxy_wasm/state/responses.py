"""A zone of kept responses (shared/plugin/responses.py) in a file of LMDB, in memory or on a disk.

The law: a worker that is killed leaves the zone whole, as all that it holds is committed at once; a machine that fails may
leave one on a disk that cannot be read, and then it is begun anew. Its size never passes what it was made with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import lmdb

from shared.plugin.responses import ZoneFailed
from shared.proxy_wasm.state.directory import HostStateError
from shared.proxy_wasm.state.environment import MAX_READERS
from shared.proxy_wasm.state.expiring import ExpiringRows

# What a page has for a long row: all but its head.
_PAGE: Final = 4096 - 16


class ResponseZone:
    """`size` in bytes. Raises HostStateError."""

    __slots__ = ("_clock", "_environment", "_table", "path")

    def __init__(self, path: Path, size: int, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._environment = _opened(path, size)
            except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
                path.unlink()
                self._environment = _opened(path, size)
            self._table = ExpiringRows(self._environment, size)
        except (lmdb.Error, OSError) as error:
            raise HostStateError(f"{path}: responses cannot be kept: {error}") from error

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._environment.begin() as txn:
                return txn.get(key, db=self._table.rows)
        except lmdb.Error as error:
            raise ZoneFailed(str(error)) from error

    def put(self, key: bytes, row: bytes) -> bool:
        try:
            with self._environment.begin(write=True) as txn:
                txn.delete(key, db=self._table.rows)
                self._table.insert(txn, key, row, self._clock(), room=len(row) // _PAGE + 1)
        except lmdb.MapFullError:
            # A long row wants pages that lie side by side.
            return False
        except lmdb.Error as error:
            raise ZoneFailed(str(error)) from error
        return True

    def purge(self, prefix: bytes) -> int:
        purged = 0
        try:
            with self._environment.begin(write=True) as txn, txn.cursor(self._table.rows) as cursor:
                while cursor.set_range(prefix) and cursor.key().startswith(prefix):
                    cursor.delete()
                    purged += 1
        except lmdb.Error as error:
            raise ZoneFailed(str(error)) from error
        return purged

    def statistics(self) -> dict[str, int]:
        with self._environment.begin() as txn:
            return self._table.statistics(txn)

    def close(self) -> None:
        with suppress(lmdb.Error):
            self._environment.reader_check()
        self._environment.close()

    def __repr__(self) -> str:
        counts = self.statistics()
        return f"<ResponseZone {self.path} rows={counts['rows']} pages={counts['pages']}/{counts['pages_limit']}>"


def _opened(path: Path, size: int) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        subdir=False,
        map_size=size,
        max_dbs=2,
        max_readers=MAX_READERS,
        max_spare_txns=1,
        mode=0o600,
        sync=False,
        metasync=False,
        readahead=False,
    )
