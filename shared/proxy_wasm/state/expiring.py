"""Rows that expire, in an LMDB environment of bounded size: what clients' choice of keys cannot fill.

The law: a row begins with the time at which it is worth nothing any more. Each is listed by the time when it expires, or would
have: one that has been renewed meanwhile is listed anew when its turn comes. A new row pays for that with a look at the two
that are first in the list, so rows are cleared as fast as they come; when there is no room, those go that would expire first.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import lmdb

from shared.limits.rows import EXPIRY, NEVER

# LMDB writes a changed page anew before it frees the old one.
_USED: Final = 0.75
_SWEPT: Final = 2

# When a row expires, in milliseconds, and its key.
_LISTED: Final = Struct(">Q")
_FOREVER: Final = EXPIRY.pack(NEVER)


class ExpiringRows:
    """Of an environment that was opened with `max_dbs` of 2."""

    __slots__ = ("_listed", "_pages", "evicted", "rows")

    def __init__(self, environment: lmdb.Environment, size: int) -> None:
        """`size` in bytes is what the environment may take."""
        self.rows = environment.open_db(b"rows")
        self._listed = environment.open_db(b"listed")
        self._pages = int(size / environment.stat()["psize"] * _USED)
        self.evicted = 0

    def insert(self, txn: lmdb.Transaction[bytes], key: bytes, row: bytes, now: float, room: int = 0) -> None:
        """A row that is not there yet; `room` are the pages that it takes beside those of the trees. One that never expires is
        its owner's to delete, and waits for nobody."""
        if row.startswith(_FOREVER):
            txn.put(key, row, db=self.rows)
            return
        self._sweep(txn, now, _SWEPT)
        while self._pages_used(txn) + room > self._pages:
            gone = self._sweep(txn, NEVER, _SWEPT)
            self.evicted += gone
            if not gone or not room:
                break
        txn.put(key, row, db=self.rows)
        self._list(txn, key, row)

    def _list(self, txn: lmdb.Transaction[bytes], key: bytes, row: bytes) -> None:
        expires = EXPIRY.unpack_from(row)[0]
        txn.put(_LISTED.pack(int(expires * 1000) + 1) + key, b"", db=self._listed)

    def _sweep(self, txn: lmdb.Transaction[bytes], until: float, count: int) -> int:
        """Look at the first ones in the list; returns how many of them are gone."""
        gone = 0
        with txn.cursor(self._listed) as cursor:
            for _ in range(count):
                if not cursor.first():
                    break
                place = cursor.key()
                if _LISTED.unpack_from(place)[0] > until * 1000:
                    break
                cursor.delete()
                gone += 1
                key = place[_LISTED.size :]
                row = txn.get(key, db=self.rows)
                if row is None:
                    continue
                if EXPIRY.unpack_from(row)[0] > until:
                    self._list(txn, key, row)
                else:
                    txn.delete(key, db=self.rows)
        return gone

    def _pages_used(self, txn: lmdb.Transaction[bytes]) -> int:
        rows, listed = txn.stat(self.rows), txn.stat(self._listed)
        trees = rows["branch_pages"] + rows["leaf_pages"] + listed["branch_pages"] + listed["leaf_pages"]
        return trees + rows["overflow_pages"]

    def statistics(self, txn: lmdb.Transaction[bytes]) -> dict[str, int]:
        return {
            "rows": txn.stat(self.rows)["entries"],
            "listed": txn.stat(self._listed)["entries"],
            "pages": self._pages_used(txn),
            "pages_limit": self._pages,
            "evicted": self.evicted,
        }
