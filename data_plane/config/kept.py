"""The last configuration that the store had, kept on the host's disk for a start without the store.

The law: what is kept is the store's own keys and values as they stood at one revision (secrets stay as encrypted as they
were), and the modules that its plugins need. A file is whole or as it was before; it is the owner's alone. Writing is done
by one worker of a data plane, in a thread, at most once a second; a disk that cannot be written costs a line in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from shared.keys import kind_prefix
from shared.run_file import state_home
from shared.store.contract import Batch, Entry, Listing

THROTTLE_SECONDS: Final = 1.0
BUSY_SECONDS: Final = 5.0
FORMAT: Final = 1

_SCHEMA: Final = """
CREATE TABLE entry (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL, mod_revision INTEGER NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE module (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE snapshot (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), revision INTEGER NOT NULL);
"""

log = structlog.get_logger(__name__)


def kept_path(store: str) -> Path:
    """Of a store by its URL, whoever logs in there."""
    place = re.sub(r"//[^/@]*@", "//", store)
    return state_home() / "snapshots" / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.db"


@dataclass(slots=True)
class _Pending:
    """What is to be written next: a whole listing if there is one, then changes by key; None is a deletion."""

    listing: Listing | None = None
    changes: dict[str, Entry | None] = field(default_factory=dict)
    revision: int = 0
    modules: dict[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.listing is not None or self.changes or self.modules)


class KeptSnapshot:
    """Use it on one event loop. Without `writes` it is only read: another worker writes."""

    def __init__(self, path: Path, *, writes: bool) -> None:
        self._path = path
        self._writes = writes
        self._pending = _Pending()
        self._writing: asyncio.Task[None] | None = None
        # What is being written just now.
        self._thread: asyncio.Future[None] | None = None
        self._said = ""

    def __repr__(self) -> str:
        return f"<KeptSnapshot {self._path}>"

    async def read(self) -> Listing | None:
        """None when nothing is kept, or nothing that can be read."""
        return await asyncio.to_thread(self._read)

    async def module(self, sha256: str) -> bytes | None:
        return await asyncio.to_thread(self._read_module, sha256)

    def listed(self, listing: Listing) -> None:
        if self._writes:
            self._pending = _Pending(listing, revision=listing.revision, modules=self._pending.modules)
            self._write_soon()

    def changed(self, batch: Batch) -> None:
        if self._writes and batch.events:
            self._pending.changes.update((event.key, event.entry) for event in batch.events)
            self._pending.revision = batch.revision
            self._write_soon()

    def fetched(self, sha256: str, data: bytes) -> None:
        """A module that a plugin needs."""
        if self._writes:
            self._pending.modules[sha256] = data
            self._write_soon()

    async def close(self) -> None:
        """What is still to be written is written."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            self._writing = None
        if self._thread is not None:
            await asyncio.gather(self._thread, return_exceptions=True)
        await self._flush()

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_later(), name="keep the snapshot")

    async def _write_later(self) -> None:
        while self._pending:
            await asyncio.sleep(THROTTLE_SECONDS)
            await self._flush()
        self._writing = None

    async def _flush(self) -> None:
        pending, self._pending = self._pending, _Pending()
        if not pending:
            return
        try:
            # A thread cannot be cancelled, and must not be met by another one.
            self._thread = asyncio.ensure_future(asyncio.to_thread(self._write, pending))
            await asyncio.shield(self._thread)
            self._said = ""
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                # It is no database any more. The next listing makes another one.
                with suppress(OSError):
                    self._path.unlink()
            if str(error) != self._said:
                log.warning("the configuration is not kept on disk", path=str(self._path), reason=str(error))
            self._said = str(error)

    # In a thread.

    def _read(self) -> Listing | None:
        if not self._path.exists():
            return None
        try:
            with self._opened() as connection:
                row = connection.execute("SELECT revision FROM snapshot").fetchone()
                if row is None:
                    return None
                found = connection.execute("SELECT key, value, create_revision, mod_revision, version FROM entry ORDER BY key")
                return Listing(row[0], tuple(Entry(_text(key), *rest) for key, *rest in found))
        except (OSError, sqlite3.Error) as error:
            log.warning("the configuration that was kept on disk cannot be read", path=str(self._path), reason=str(error))
            return None

    def _read_module(self, sha256: str) -> bytes | None:
        if not self._path.exists():
            return None
        with suppress(OSError, sqlite3.Error), self._opened() as connection:
            row = connection.execute("SELECT data FROM module WHERE sha256 = ?", (sha256,)).fetchone()
            data: bytes | None = None if row is None else row[0]
            return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None
        return None

    def _write(self, pending: _Pending) -> None:
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT revision FROM snapshot").fetchone()
            # Another data plane of this host may have been here with something newer.
            if pending.listing is not None:
                connection.execute("DELETE FROM entry")
                _put(connection, pending.listing.entries)
            if pending.listing is not None or (row is not None and row[0] < pending.revision):
                _put(connection, [entry for entry in pending.changes.values() if entry is not None])
                gone = [(_bytes(key),) for key, entry in pending.changes.items() if entry is None]
                connection.executemany("DELETE FROM entry WHERE key = ?", gone)
                connection.execute("INSERT OR REPLACE INTO snapshot VALUES (0, ?)", (pending.revision,))
            connection.executemany("INSERT OR IGNORE INTO module VALUES (?, ?)", pending.modules.items())
            _drop_modules(connection)
            connection.execute("COMMIT")
        _let_go(pending)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its side files the mode of this one.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            found: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            elif found != FORMAT:
                raise sqlite3.DatabaseError(f"it has format {found}, this version of Waspgate reads format {FORMAT}")
            yield connection


def _let_go(pending: _Pending) -> None:
    """One by one, so that the event loop gets its turn: to free 100,000 entries at once takes 30 ms."""
    entries = [] if pending.listing is None else list(pending.listing.entries)
    pending.listing = None
    while entries:
        entries.pop()


def _put(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)",
        ((_bytes(one.key), one.value, one.create_revision, one.mod_revision, one.version) for one in entries),
    )


def _drop_modules(connection: sqlite3.Connection) -> None:
    """Those that no plugin names any more."""
    prefix = _bytes(kind_prefix("wasm_plugins"))
    named: set[str] = set()
    for (value,) in connection.execute("SELECT value FROM entry WHERE key BETWEEN ? AND ?", (prefix, prefix + b"\xff")):
        with suppress(ValueError, KeyError, TypeError):
            named.add(json.loads(value)["module"]["sha256"])
    kept = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM module")}
    connection.executemany("DELETE FROM module WHERE sha256 = ?", [(sha256,) for sha256 in kept - named])


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
