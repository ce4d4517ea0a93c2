"""The embedded store's keys: reading them, writing them in revisions, and forgetting their history.

The law: one committed transaction that changes anything is one revision; a reader of changes gets whole revisions.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shared.store.contract import (
    Batch,
    Compacted,
    Delete,
    Entry,
    Event,
    Expect,
    LeaseNotFound,
    Listing,
    Put,
    TxnResult,
)
from shared.store.keyspace import decode_key, encode_key, prefix_range
from shared.store.sqlite_file import read_transaction, write_transaction

# A watch that is far behind catches up in steps, so that one read does not hold the whole history in memory.
REVISIONS_PER_BATCH: Final = 1000

_ENTRY: Final = "record.key, record.value, record.create_revision, record.revision, record.version, record.lease"
_LIVE: Final = f"SELECT {_ENTRY} FROM live JOIN record ON record.id = live.record_id"
_Row = tuple[bytes, bytes | None, int, int, int, int]


class _Current(NamedTuple):
    record_id: int
    revision: int
    create_revision: int
    version: int


def read_revision(connection: sqlite3.Connection) -> int:
    revision: int = connection.execute("SELECT revision FROM store").fetchone()[0]
    return revision


def read_entry(connection: sqlite3.Connection, key: str) -> Entry | None:
    row: _Row | None = connection.execute(f"{_LIVE} WHERE live.key = ?", (encode_key(key),)).fetchone()
    return None if row is None else _entry(row)


def read_listing(connection: sqlite3.Connection, prefix: str) -> Listing:
    where, bounds = _within("live.key", prefix)
    with read_transaction(connection):
        revision = read_revision(connection)
        rows: list[_Row] = connection.execute(f"{_LIVE} WHERE {where} ORDER BY live.key", bounds).fetchall()
    return Listing(revision, tuple(entry for row in rows if (entry := _entry(row)) is not None))


def read_changes(connection: sqlite3.Connection, prefix: str, from_revision: int) -> Batch | None:
    """The next whole revisions from that one on; None when the store has not reached it."""
    where, bounds = _within("record.key", prefix)
    with read_transaction(connection):
        revision, compact_revision = connection.execute("SELECT revision, compact_revision FROM store").fetchone()
        # A reader that is ahead of the store has seen another history: the file was replaced by an older one.
        if from_revision < compact_revision or from_revision > revision + 1:
            raise Compacted(compact_revision)
        if from_revision > revision:
            return None
        last = min(revision, from_revision + REVISIONS_PER_BATCH - 1)
        rows: list[_Row] = connection.execute(
            f"SELECT {_ENTRY} FROM record WHERE revision BETWEEN ? AND ? AND {where} ORDER BY revision, id",
            (from_revision, last, *bounds),
        ).fetchall()
    return Batch(last, tuple(Event(decode_key(row[0]), row[3], _entry(row)) for row in rows))


def commit(connection: sqlite3.Connection, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
    with write_transaction(connection):
        revision = read_revision(connection)
        for condition in expect:
            current = _current(connection, encode_key(condition.key))
            if (current.revision if current else 0) != condition.mod_revision:
                return TxnResult(False, revision)
        written = [_apply(connection, operation, revision + 1) for operation in operations]
        return TxnResult(True, _advance(connection, revision) if any(written) else revision)


def _advance(connection: sqlite3.Connection, revision: int) -> int:
    connection.execute("UPDATE store SET revision = ?", (revision + 1,))
    return revision + 1


def _apply(connection: sqlite3.Connection, operation: Put | Delete, revision: int) -> bool:
    key = encode_key(operation.key)
    current = _current(connection, key)
    if isinstance(operation, Delete):
        return current is not None and _write_deletion(connection, key, current, revision)
    if operation.lease and not _lease_lives(connection, operation.lease):
        raise LeaseNotFound(f"the lease {operation.lease} does not exist or has expired")
    created, version = (current.create_revision, current.version + 1) if current else (revision, 1)
    record_id = connection.execute(
        "INSERT INTO record (revision, key, create_revision, version, lease, written_at, superseded, value)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        (revision, key, created, version, operation.lease, time.time(), operation.value),
    ).lastrowid
    if current is not None:
        _supersede(connection, current)
    connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", (key, record_id, operation.lease))
    return True


def _write_deletion(connection: sqlite3.Connection, key: bytes, current: _Current, revision: int) -> bool:
    connection.execute(
        "INSERT INTO record (revision, key, create_revision, version, lease, written_at, superseded, value)"
        " VALUES (?, ?, 0, 0, 0, ?, 1, NULL)",
        (revision, key, time.time()),
    )
    _supersede(connection, current)
    connection.execute("DELETE FROM live WHERE key = ?", (key,))
    return True


def _supersede(connection: sqlite3.Connection, current: _Current) -> None:
    connection.execute("UPDATE record SET superseded = 1 WHERE id = ?", (current.record_id,))


def _current(connection: sqlite3.Connection, key: bytes) -> _Current | None:
    row: tuple[int, int, int, int] | None = connection.execute(
        "SELECT record.id, record.revision, record.create_revision, record.version"
        " FROM live JOIN record ON record.id = live.record_id WHERE live.key = ?",
        (key,),
    ).fetchone()
    return None if row is None else _Current(*row)


def _lease_lives(connection: sqlite3.Connection, lease: int) -> bool:
    found = connection.execute("SELECT 1 FROM lease WHERE id = ? AND expires_at > ?", (lease, time.time()))
    return found.fetchone() is not None


def delete(connection: sqlite3.Connection, key: bytes) -> bool:
    with write_transaction(connection):
        return delete_keys(connection, (key,))


def delete_keys(connection: sqlite3.Connection, keys: Iterable[bytes]) -> bool:
    """All in one revision, within the caller's write transaction. True when any existed."""
    revision = read_revision(connection)
    written = [_apply(connection, Delete(decode_key(key)), revision + 1) for key in keys]
    if any(written):
        _advance(connection, revision)
    return any(written)


def compaction_target(connection: sqlite3.Connection, keep_revisions: int, keep_seconds: float) -> int:
    """The revision before which history is over the given count or age; at most the compact revision when none is."""
    oldest = connection.execute(
        "SELECT max(revision) FROM record WHERE superseded = 1 AND written_at < ?", (time.time() - keep_seconds,)
    ).fetchone()[0]
    revision = read_revision(connection)
    return min(revision, max(revision - keep_revisions, 0 if oldest is None else oldest + 1))


def compact(connection: sqlite3.Connection, revision: int) -> None:
    """Forget what was superseded or deleted before that revision."""
    with write_transaction(connection):
        current, compacted = connection.execute("SELECT revision, compact_revision FROM store").fetchone()
        if revision > current:
            raise ValueError(f"cannot compact to revision {revision}, the store is at {current}")
        if revision > compacted:
            connection.execute("DELETE FROM record WHERE superseded = 1 AND revision < ?", (revision,))
            connection.execute("UPDATE store SET compact_revision = ?", (revision,))


def _within(column: str, prefix: str) -> tuple[str, tuple[bytes, ...]]:
    start, end = prefix_range(prefix)
    if end is None:
        return f"{column} >= ?", (start,)
    return f"{column} >= ? AND {column} < ?", (start, end)


def _entry(row: _Row) -> Entry | None:
    key, value, create_revision, revision, version, lease = row
    if value is None:
        return None
    return Entry(decode_key(key), value, create_revision, revision, version, lease)
