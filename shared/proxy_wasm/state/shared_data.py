"""Shared data: keys and values that all plugins with one vm_id share, in all workers of the host.

The law (proxy_get_shared_data, proxy_set_shared_data): every successful set gives the entry a CAS number that no entry had
before, never 0. A set with a CAS number other than 0 succeeds only on the entry that has it, or where there is no entry.
Comparing and setting are one transaction, so no update of another worker is lost.
"""

from __future__ import annotations

from itertools import islice
from struct import Struct
from typing import Final

import lmdb

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U32, name_key, rows, vm_key

# A guest sees the CAS number as a u32.
CAS_LIMIT: Final = 1 << 32
# Keys and values of one vm_id together. With as much for a queue, 32 plugins fill MAP_SIZE.
BYTES_PER_VM: Final = 16 << 20
# What LMDB stores beside a row, so that a million empty values are not free.
ENTRY_OVERHEAD: Final = 32
# Deleted in one transaction: 1 ms in which other workers wait, and few enough pages to delete when memory is short.
DROP_BATCH: Final = 256

_SIZE = Struct(">QQ")


class SharedData:
    """Answers in place, in microseconds; called on the thread that runs the guest."""

    __slots__ = ("_bytes_per_vm", "_environment")

    def __init__(self, environment: Environment, bytes_per_vm: int = BYTES_PER_VM) -> None:
        self._environment = environment
        self._bytes_per_vm = bytes_per_vm

    def get(self, vm_id: str, key: bytes) -> tuple[bytes, int] | None:
        """Value and CAS number; None is NOT_FOUND."""
        with self._environment.read() as txn:
            held = txn.get(vm_key(vm_id) + name_key(key), db=self._environment.tables.data)
        if held is None:
            return None
        return held[U32.size :], U32.unpack_from(held)[0]

    def set(self, vm_id: str, key: bytes, value: bytes, cas: int = 0, limit: int | None = None) -> Status:
        """OK, CAS_MISMATCH, or INTERNAL_FAILURE when the vm_id's limit (the bytes of all its entries) or the host's memory is
        reached."""
        try:
            with self._environment.write() as txn:
                return self._set(txn, vm_key(vm_id), key, value, cas, self._bytes_per_vm if limit is None else limit)
        except lmdb.Error as error:
            return self._environment.failed(error)

    def _set(self, txn: lmdb.Transaction[bytes], vm: bytes, key: bytes, value: bytes, cas: int, limit: int) -> Status:
        tables = self._environment.tables
        name = vm + name_key(key)
        held = txn.get(name, db=tables.data)
        if held is not None and cas and cas != U32.unpack_from(held)[0]:
            return Status.CAS_MISMATCH
        row = len(name) + U32.size + len(value) + ENTRY_OVERHEAD
        growth = row if held is None else row - len(name) - len(held) - ENTRY_OVERHEAD
        size, entries = self._size(txn, vm)
        if growth > 0 and (size + growth > limit or not self._environment.room.admits(growth)):
            return Status.INTERNAL_FAILURE
        new = self._environment.next_number(txn, b"cas", CAS_LIMIT)
        txn.put(name, U32.pack(new) + value, db=tables.data)
        if growth or held is None:
            txn.put(vm, _SIZE.pack(size + growth, entries + (held is None)), db=tables.data_size)
        return Status.OK

    def _size(self, txn: lmdb.Transaction[bytes], vm: bytes) -> tuple[int, int]:
        """Bytes and entries."""
        size, entries = _SIZE.unpack(txn.get(vm, db=self._environment.tables.data_size) or _SIZE.pack(0, 0))
        return size, entries

    def drop(self, vm_id: str) -> Status:
        """Forgets all entries of a vm_id: its last VM on this host is gone."""
        try:
            while self._drop_some(vm_key(vm_id)):
                pass
        except lmdb.Error as error:
            return self._environment.failed(error)
        return Status.OK

    def _drop_some(self, vm: bytes) -> bool:
        """Whether there may be more."""
        tables = self._environment.tables
        with self._environment.write() as txn:
            batch = list(islice(rows(txn, tables.data, vm), DROP_BATCH))
            size, entries = self._size(txn, vm)
            for name, row in batch:
                txn.delete(name, db=tables.data)
                size -= len(name) + len(row) + ENTRY_OVERHEAD
            if len(batch) < DROP_BATCH:
                txn.delete(vm, db=tables.data_size)
                return False
            txn.put(vm, _SIZE.pack(size, entries - len(batch)), db=tables.data_size)
            return True

    def statistics(self) -> dict[str, int]:
        with self._environment.read() as txn:
            sizes = [_SIZE.unpack(value) for _, value in rows(txn, self._environment.tables.data_size)]
        return {
            "vm_ids": len(sizes),
            "entries": sum(entries for _, entries in sizes),
            "bytes": sum(size for size, _ in sizes),
            "bytes_per_vm_limit": self._bytes_per_vm,
        }

    def __repr__(self) -> str:
        counts = self.statistics()
        return f"<SharedData vm_ids={counts['vm_ids']} entries={counts['entries']} bytes={counts['bytes']}>"
