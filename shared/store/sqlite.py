"""The embedded engine: one SQLite file, shared by several processes of one host.

The law: nothing here blocks the event loop. Reads and writes each have a thread and a connection, so that a writer that
waits for another process's lock holds up neither lists nor watches.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from shared.store import sqlite_file, sqlite_lease, sqlite_record, sqlite_signal
from shared.store.contract import Batch, Delete, Entry, Expect, Listing, Put, StoreError, StoreUnavailable, TxnResult
from shared.store.keyspace import encode_key
from shared.store.request import check_transaction

P = ParamSpec("P")
T = TypeVar("T")

# How long history is kept for readers that come back: whichever limit is reached first.
HISTORY_REVISIONS: Final = 10_000
HISTORY_SECONDS: Final = 3600.0
COMPACTION_SECONDS: Final = 60.0
# An expired lease is noticed within this.
LEASE_SECONDS: Final = 0.5

_log = logging.getLogger("waspgate.store")


class _Lane:
    """One thread with one connection."""

    __slots__ = ("_connection", "_executor", "_name", "_path")

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._executor: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._connection = await self._in_thread(self._executor, lambda: sqlite_file.connect(self._path))

    async def run(self, call: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        connection, executor = self._connection, self._executor
        if connection is None or executor is None:
            raise StoreError(f"the store {self._path} is not open")
        return await self._in_thread(executor, lambda: call(connection, *args, **kwargs))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        executor, self._executor = self._executor, None
        if executor is None:
            return
        if connection is not None:
            await self._in_thread(executor, connection.close)
        executor.shutdown(wait=False)

    async def _in_thread(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, self._translated, call)

    def _translated(self, call: Callable[[], T]) -> T:
        with sqlite_file.storage_errors(self._path):
            return call()


class SqliteStore:
    """`ConfigStore` over one file. Use it as a context manager; one object serves any number of tasks of one loop."""

    def __init__(
        self, path: Path, *, history_revisions: int = HISTORY_REVISIONS, history_seconds: float = HISTORY_SECONDS
    ) -> None:
        self._path = path
        self._history = history_revisions, history_seconds
        self._reader = _Lane(path, "store-read")
        self._writer = _Lane(path, "store-write")
        self._signal: sqlite_signal.ChangeSignal | None = None
        self._housekeeping: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    async def __aenter__(self) -> Self:
        try:
            await self._writer.open()
            await self._reader.open()
            with sqlite_file.storage_errors(self._path):
                self._signal = sqlite_signal.ChangeSignal(self._path)
        except BaseException:
            await self.__aexit__()
            raise
        self._housekeeping = asyncio.create_task(self._keep_house())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._housekeeping
        signal, self._signal = self._signal, None
        if signal is not None:
            signal.close()
        await self._reader.close()
        await self._writer.close()

    async def revision(self) -> int:
        return await self._reader.run(sqlite_record.read_revision)

    async def get(self, key: str) -> Entry | None:
        return await self._reader.run(sqlite_record.read_entry, key)

    async def list(self, prefix: str) -> Listing:
        return await self._reader.run(sqlite_record.read_listing, prefix)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.transaction((), (Put(key, value, lease),))).revision

    async def delete(self, key: str) -> bool:
        return await self._write(sqlite_record.delete, encode_key(key))

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        check_transaction(expect, operations)
        return await self._write(sqlite_record.commit, expect, operations)

    async def grant_lease(self, ttl_seconds: int) -> int:
        return await self._writer.run(sqlite_lease.grant_lease, ttl_seconds)

    async def keep_alive(self, lease: int) -> bool:
        return await self._writer.run(sqlite_lease.keep_alive, lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._write(sqlite_lease.revoke_lease, lease)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        if self._signal is None:
            raise StoreError(f"the store {self._path} is not open")
        with self._signal.listen() as changed:
            while True:
                changed.clear()
                try:
                    batch = await self._reader.run(sqlite_record.read_changes, prefix, from_revision)
                except StoreUnavailable as error:
                    _log.warning("watch waits: %s", error)
                    await asyncio.sleep(sqlite_signal.POLL_BESIDE_INOTIFY_SECONDS)
                    continue
                if batch is None:
                    await changed.wait()
                else:
                    from_revision = batch.revision + 1
                    yield batch

    async def compact(self, revision: int) -> None:
        """Forget history before that revision now; otherwise housekeeping does it in its time."""
        await self._writer.run(sqlite_record.compact, revision)

    async def _write(self, call: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        path = self._path

        def write(connection: sqlite3.Connection) -> T:
            result = call(connection, *args, **kwargs)
            sqlite_signal.announce(path)
            return result

        return await self._writer.run(write)

    async def _keep_house(self) -> None:
        """Every process does this; the file's write lock lets one at a time, and the others find it done."""
        loop = asyncio.get_running_loop()
        next_compaction = loop.time()
        while True:
            try:
                if await self._reader.run(sqlite_lease.has_expired_leases):
                    await self._write(sqlite_lease.expire_leases)
                if loop.time() >= next_compaction:
                    next_compaction += COMPACTION_SECONDS
                    target = await self._reader.run(sqlite_record.compaction_target, *self._history)
                    await self._writer.run(sqlite_record.compact, target)
            except StoreUnavailable as error:
                _log.warning("housekeeping waits: %s", error)
            await asyncio.sleep(LEASE_SECONDS)
