"""The LMDB environment that all workers of a host open: its tables, its limits, its two kinds of transaction.

The law: every worker opens its own, after it was forked, and once; what is committed is whole, and what a killed worker
had begun never was. LMDB keeps that by writing new pages beside the old and by a lock that the kernel hands on when its holder
dies. A transaction lasts microseconds: nothing waits, computes or does other I/O inside one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import lmdb

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.directory import LMDB_FILES, HostStateError, prepare
from shared.proxy_wasm.state.keys import U64
from shared.proxy_wasm.state.room import Room, bytes_available

# Room for 32 plugins that fill their shared data and a queue. Address space only: memory is taken as it is used.
MAP_SIZE: Final = 1 << 30
# Enough for LMDB's own files; with less the kernel kills a process that touches them (SIGBUS).
MIN_AVAILABLE: Final = 1 << 20
# One for each thread that reads at once, so for each worker; a killed worker's is given back by `tend`.
MAX_READERS: Final = 512

COUNTER_LIMIT: Final = 1 << 64
_BLOCK: Final = 512  # the unit of st_blocks


TABLES: Final = (
    "counters",
    "data",
    "data_size",
    "gateway",
    "health",
    "items",
    "metrics",
    "names",
    "queues",
    "ready",
    "registrants",
    "registrations",
    "reports",
    "workers",
)


class Tables:
    """Each table, as key -> value."""

    __slots__ = (
        "counters",
        "data",
        "data_size",
        "gateway",
        "health",
        "items",
        "metrics",
        "names",
        "queues",
        "ready",
        "registrants",
        "registrations",
        "reports",
        "workers",
    )

    def __init__(self, environment: lmdb.Environment) -> None:
        def table(name: str) -> lmdb._Database:
            return environment.open_db(name.encode())

        self.counters = table("counters")  # name -> last number given
        self.workers = table("workers")  # worker -> pid
        self.data = table("data")  # vm, name -> cas, value
        self.data_size = table("data_size")  # vm -> bytes, entries
        self.names = table("names")  # vm, queue's name -> queue
        self.queues = table("queues")  # queue -> vm, first item, next item, bytes
        self.items = table("items")  # queue, number -> item
        self.registrants = table("registrants")  # queue, stamp -> worker, owner: the last one gets the events
        self.registrations = table("registrations")  # worker, owner, queue -> stamp
        self.ready = table("ready")  # worker, owner, queue -> events to deliver
        self.metrics = table("metrics")  # worker, kind, name's digest -> numbers, name
        self.gateway = table("gateway")  # the same, of the gateway's own numbers
        self.health = table("health")  # upstream, address, port, name -> what health checks found
        self.reports = table("reports")  # worker -> what it says of itself

    def all(self) -> list[lmdb._Database]:
        return [getattr(self, name) for name in TABLES]


class Environment:
    """`read()` and `write()` begin transactions, to be used with `with`: an exception inside undoes everything.

    All workers that open a directory give it the same `map_size`.
    """

    __slots__ = ("_failures", "_last_failure", "_lmdb", "directory", "room", "tables")

    def __init__(self, directory: Path, map_size: int = MAP_SIZE) -> None:
        prepare(directory)
        self.directory = directory
        self.room = Room(_size(directory, map_size), self._bytes_in_use)
        self._failures = 0
        self._last_failure = ""
        try:
            # Not `writemap`, which is 2 us faster: when memory runs out it is killed by SIGBUS, where a write returns an error.
            self._lmdb = lmdb.open(
                str(directory),
                map_size=map_size,
                max_dbs=len(TABLES),
                max_readers=MAX_READERS,
                max_spare_txns=1,
                mode=0o600,
                sync=False,
                metasync=False,
                readahead=False,
            )
        except (lmdb.Error, OSError) as error:
            raise HostStateError(f"{directory}: cannot be opened: {error}") from error
        try:
            self.tables = Tables(self._lmdb)
        except lmdb.Error as error:
            self._lmdb.close()
            raise HostStateError(f"{directory}: cannot be used: {error}") from error

    def read(self) -> lmdb.Transaction[bytes]:
        return self._lmdb.begin()

    def write(self) -> lmdb.Transaction[bytes]:
        """Waits for the other workers' write in progress, if there is one."""
        return self._lmdb.begin(write=True)

    def next_number(self, txn: lmdb.Transaction[bytes], name: bytes, limit: int = COUNTER_LIMIT) -> int:
        """Counts from 1; below `limit`, after which it starts again, since 0 stands for nothing."""
        table = self.tables.counters
        last = txn.get(name, db=table)
        number = 1 if last is None else U64.unpack(last)[0] + 1
        if number >= limit:
            number = 1
        txn.put(name, U64.pack(number), db=table)
        return number

    def failed(self, error: lmdb.Error) -> Status:
        """The status of a call that LMDB refused, most likely because memory has run out. The call has changed nothing."""
        self._failures += 1
        self._last_failure = str(error)
        return Status.INTERNAL_FAILURE

    def _bytes_in_use(self) -> int:
        """Of the file, while that is small; later of the tables in it, since a file never shrinks."""
        page = self._lmdb.stat()["psize"]
        in_file = (self._lmdb.info()["last_pgno"] + 1) * page
        if in_file < self.room.limit // 2:
            return in_file
        with self.read() as txn:
            counts = [txn.stat(table) for table in self.tables.all()]
        return page * sum(count["branch_pages"] + count["leaf_pages"] + count["overflow_pages"] for count in counts)

    def release_dead_readers(self) -> int:
        """A worker killed while it read would keep its view of the past alive, and its pages from being used again."""
        try:
            return self._lmdb.reader_check()
        except lmdb.Error as error:
            self.failed(error)
            return 0

    def close(self) -> None:
        self._lmdb.close()

    def statistics(self) -> dict[str, int | str]:
        info, page = self._lmdb.info(), self._lmdb.stat()["psize"]
        return {
            "bytes_limit": self.room.limit,
            "bytes": self._bytes_in_use(),
            "file_bytes": (info["last_pgno"] + 1) * page,
            "transactions": info["last_txnid"],
            "refusals": self.room.refusals,
            "failures": self._failures,
            "last_failure": self._last_failure,
        }

    def __repr__(self) -> str:
        return f"<Environment {self.directory} failures={self._failures}>"


def _size(directory: Path, map_size: int) -> int:
    """What the state may become: the map, or what its file system has for it if that is less."""
    available = bytes_available(directory)
    if available is None:
        return map_size
    data = directory / LMDB_FILES[0]
    if data.exists():
        available += data.stat().st_blocks * _BLOCK
    if available < MIN_AVAILABLE:
        raise HostStateError(f"{directory}: {available} bytes available, expected at least {MIN_AVAILABLE}")
    return min(map_size, available)
