"""Verdicts on the nodes of upstreams, which all workers of a host share: rows whose meaning is the caller's.

The law: a row changes inside one transaction, read, judged and written, so no report of another worker is lost. The version
moves with every change that others must hear of, so that they ask for one number and read rows only when it has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import lmdb

from shared.proxy_wasm.state.directory import knock, pipe_path
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U64, rows
from shared.proxy_wasm.state.workers import Worker

_VERSION = b"health"
# LMDB takes keys of up to 511 bytes.
LONGEST_KEY = 511

# What a row becomes, and whether others must hear of it.
Change = Callable[[bytes | None], tuple[bytes, bool]]


class HealthTable:
    """What LMDB refuses changes nothing and is None, or the caller's own rows."""

    __slots__ = ("_environment", "_worker")

    def __init__(self, environment: Environment, worker: Worker) -> None:
        self._environment = environment
        self._worker = worker

    def version(self) -> int:
        try:
            with self._environment.read() as txn:
                found = txn.get(_VERSION, db=self._environment.tables.counters)
        except lmdb.Error as error:
            self._environment.failed(error)
            return 0
        return 0 if found is None else int(U64.unpack(found)[0])

    def read(self) -> dict[bytes, bytes]:
        try:
            return read_rows(self._environment)
        except lmdb.Error as error:
            self._environment.failed(error)
            return {}

    def change(self, key: bytes, change: Change) -> bytes | None:
        """The row as it is now."""
        table = self._environment.tables.health
        try:
            with self._environment.write() as txn:
                before = txn.get(key, db=table)
                after, heard = change(before)
                if after != before:
                    txn.put(key, after, db=table)
                if heard:
                    self._environment.next_number(txn, _VERSION)
        except lmdb.Error as error:
            self._environment.failed(error)
            return None
        return after

    def keep(self, wanted: Mapping[bytes, bytes]) -> None:
        """Adds the rows that are missing and deletes all others."""
        table = self._environment.tables.health
        try:
            found = read_rows(self._environment).keys()
            if found == wanted.keys():
                return
            with self._environment.write() as txn:
                for key in found - wanted.keys():
                    txn.delete(key, db=table)
                for key in wanted.keys() - found:
                    txn.put(key, wanted[key], db=table, overwrite=False)
                self._environment.next_number(txn, _VERSION)
        except lmdb.Error as error:
            self._environment.failed(error)

    def leads(self) -> bool:
        """Whether this worker is the one of the host that probes: the oldest that lives."""
        directory = self._environment.directory
        try:
            with self._environment.read() as txn:
                numbers = [U64.unpack(key)[0] for key, _ in rows(txn, self._environment.tables.workers)]
        except lmdb.Error as error:
            self._environment.failed(error)
            return True
        for number in sorted(numbers):
            if number == self._worker.number:
                return True
            if knock(pipe_path(directory, number)):
                return False
        return True


def read_rows(environment: Environment) -> dict[bytes, bytes]:
    """Raises lmdb.Error."""
    with environment.read() as txn:
        return dict(rows(txn, environment.tables.health))
