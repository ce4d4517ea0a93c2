"""The embedded store's file: its schema, how it is opened, and its two kinds of transaction.

The law: every change is a row of `record`, whose content is written once and never edited; `live` names the row that
each key stands for now. So a watch reads the same rows that a list reads, and compaction deletes rows that are
superseded and older than the compact revision, and nothing else. These are plain blocking calls: whoever calls
decides on threads.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.store.contract import StoreError, StoreUnavailable

FORMAT: Final = 1
# How long a call waits for another process's lock. etcd calls are bounded by the same figure.
BUSY_SECONDS: Final = 5.0
# The write-ahead log is cut back to this after a checkpoint; a 32 MiB module upload would leave it large for ever.
JOURNAL_BYTES: Final = 8 * 1024 * 1024

_SCHEMA: Final = """
CREATE TABLE store (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 0), revision INTEGER NOT NULL, compact_revision INTEGER NOT NULL
);
INSERT INTO store VALUES (0, 1, 0);
CREATE TABLE record (
    id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, key BLOB NOT NULL, create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL, lease INTEGER NOT NULL, written_at REAL NOT NULL, superseded INTEGER NOT NULL, value BLOB
);
CREATE INDEX record_revision ON record (revision);
CREATE INDEX record_superseded ON record (revision, written_at) WHERE superseded = 1;
CREATE TABLE live (key BLOB PRIMARY KEY, record_id INTEGER NOT NULL, lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX live_lease ON live (lease) WHERE lease <> 0;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_seconds INTEGER NOT NULL, expires_at REAL NOT NULL);
"""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """The one place where SQLite's errors become the contract's."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the store file {path} cannot be used now: {error}") from error
    except sqlite3.Error as error:
        raise StoreError(f"the store file {path} is unusable: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"the store file {path} cannot be opened: {error.strerror}") from error


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, made with its folder and schema where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The store holds secrets: its file, and with it SQLite's side files, are the owner's alone. A file that exists must not
    # even be opened: closing it again would drop the locks of this process's other connections (POSIX), and the next
    # process to close the store would delete the write-ahead log under them.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _switch_to_wal(connection)
    # A write that was acknowledged survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
    with write_transaction(connection):
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        elif found != FORMAT:
            raise StoreError(f"the store file {path} has format {found}, this version of Waspgate reads format {FORMAT}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for the lock that this switch needs, so two processes that create one file must."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreError(f"SQLite keeps a journal of kind {mode!r} here, the store needs 'wal'")


@contextmanager
def write_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def read_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
