"""Shared queues: first in, first out, between all plugins and workers of a host.

The law (proxy_*_shared_queue): a queue is known by (vm_id, name) to those who register or resolve it and by its number, never 0
and never given again, to those who use it. Its items outlive every worker. Each enqueue makes one event, for one plugin
context: see ready.py. Items and events change in one transaction; the wake-up follows the commit, and may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

import lmdb

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.state.census import bury
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U32, U64, VM_BYTES, name_key, rows, vm_key
from shared.proxy_wasm.state.ready import QUEUE, ReadyTables, Registrant
from shared.proxy_wasm.state.workers import Worker

# Of one queue. Bytes: a second of log lines of 500 bytes at 30 000 requests; items: twice the lines of that second.
QUEUE_BYTES: Final = 16 << 20
QUEUE_ITEMS: Final = 65536
# Each costs some hundred bytes for as long as the vm_id lives, and a guest may make up names.
QUEUES_PER_VM: Final = 256
# Deleted in one transaction, for as long as other workers wait.
DROP_BATCH: Final = 256
# Delivered at a time: each runs a callback, and between two batches the event loop serves requests.
READY_BATCH: Final = 256

_QUEUE_LIMIT: Final = 1 << 32


class SharedQueues:
    """Queues as this worker's plugins see them. `owner` is the caller's token for a plugin context, a u64."""

    __slots__ = ("_bytes", "_environment", "_found_dead", "_items", "_worker")

    def __init__(
        self, environment: Environment, worker: Worker, queue_items: int = QUEUE_ITEMS, queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self._environment = environment
        self._worker = worker
        self._found_dead = False
        self._items = queue_items
        self._bytes = queue_bytes

    def register(self, vm_id: str, name: bytes, owner: int) -> tuple[Status, int]:
        """The queue's number; its items stay, its events go to `owner` from now on. INTERNAL_FAILURE: too many queues."""
        vm, tables = vm_key(vm_id), self._environment.tables
        try:
            with self._environment.write() as txn:
                known = txn.get(vm + name_key(name), db=tables.names)
                queue = U32.unpack(known)[0] if known is not None else self._make(txn, vm, name)
                woken = bool(queue) and ReadyTables(self._environment, txn).register(queue, self._me(owner))
        except lmdb.Error as error:
            return self._environment.failed(error), 0
        if woken:
            self._wake({self._worker.number})
        return (Status.OK, queue) if queue else (Status.INTERNAL_FAILURE, 0)

    def _make(self, txn: lmdb.Transaction[bytes], vm: bytes, name: bytes) -> int:
        """0 when the vm_id has too many."""
        tables = self._environment.tables
        if sum(1 for _ in rows(txn, tables.names, vm)) >= QUEUES_PER_VM or not self._environment.room.admits(len(name)):
            return 0
        queue = self._environment.next_number(txn, b"queue", _QUEUE_LIMIT)
        txn.put(vm + name_key(name), U32.pack(queue), db=tables.names)
        txn.put(U32.pack(queue), QUEUE.pack(vm, 0, 0, 0), db=tables.queues)
        return queue

    def resolve(self, vm_id: str, name: bytes) -> int | None:
        """None is NOT_FOUND."""
        with self._environment.read() as txn:
            known = txn.get(vm_key(vm_id) + name_key(name), db=self._environment.tables.names)
        return None if known is None else U32.unpack(known)[0]

    def enqueue(self, queue: int, data: bytes) -> Status:
        """OK, NOT_FOUND, or INTERNAL_FAILURE when the queue's limit or the host's memory is reached."""
        tables, number = self._environment.tables, U32.pack(queue)
        try:
            with self._environment.write() as txn:
                record = txn.get(number, db=tables.queues)
                if record is None:
                    return Status.NOT_FOUND
                vm, first, following, size = QUEUE.unpack(record)
                full = following - first >= self._items or size + len(data) > self._bytes
                if full or not self._environment.room.admits(len(data)):
                    return Status.INTERNAL_FAILURE
                txn.put(number + U64.pack(following), data, db=tables.items)
                txn.put(number, QUEUE.pack(vm, first, following + 1, size + len(data)), db=tables.queues)
                target = ReadyTables(self._environment, txn).notify(queue)
        except lmdb.Error as error:
            return self._environment.failed(error)
        if target is not None:
            self._wake({target.worker})
        return Status.OK

    def dequeue(self, queue: int) -> tuple[Status, bytes]:
        """OK and the oldest item, EMPTY, or NOT_FOUND."""
        tables, number = self._environment.tables, U32.pack(queue)
        try:
            with self._environment.write() as txn:
                record = txn.get(number, db=tables.queues)
                if record is None:
                    return Status.NOT_FOUND, b""
                vm, first, following, size = QUEUE.unpack(record)
                if first == following:
                    return Status.EMPTY, b""
                data = txn.pop(number + U64.pack(first), db=tables.items) or b""
                txn.put(number, QUEUE.pack(vm, first + 1, following, size - len(data)), db=tables.queues)
        except lmdb.Error as error:
            return self._environment.failed(error), b""
        return Status.OK, data

    def ready_fd(self) -> int:
        """For the event loop's add_reader: readable when `take_ready` may have something."""
        return self._worker.ready_fd()

    def take_ready(self, limit: int = READY_BATCH) -> list[tuple[int, int]]:
        """The next events of this worker, as (owner, queue), each to be delivered once; the item may be gone by then.

        When more are waiting the descriptor is readable again at once. Also to be called on a slow timer.
        """
        self._worker.drain()
        if self._found_dead:
            self._found_dead = False
            bury(self._environment, self._worker)
        try:
            with self._environment.read() as txn:
                if next(rows(txn, self._environment.tables.ready, U64.pack(self._worker.number)), None) is None:
                    return []
            with self._environment.write() as txn:
                taken, more = ReadyTables(self._environment, txn).take(self._worker.number, limit)
        except lmdb.Error as error:
            self._environment.failed(error)
            return []
        if more:
            self._wake({self._worker.number})
        return taken

    def release(self, owner: int) -> Status:
        """The plugin context is gone: its queues' events go to the registrant before it, or wait for the next."""
        try:
            with self._environment.write() as txn:
                heirs = ReadyTables(self._environment, txn).release(*self._me(owner))
        except lmdb.Error as error:
            return self._environment.failed(error)
        self._wake(heirs)
        return Status.OK

    def drop(self, vm_id: str) -> Status:
        """Deletes all queues of a vm_id with their items: its last VM on this host is gone."""
        tables = self._environment.tables
        try:
            with self._environment.read() as txn:
                found = list(rows(txn, tables.names, vm_key(vm_id)))
            for name, number in found:
                while not self._drop_some(name, number):
                    pass
        except lmdb.Error as error:
            return self._environment.failed(error)
        return Status.OK

    def _drop_some(self, name: bytes, number: bytes) -> bool:
        """Deletes from the front, as if dequeued, and at last the queue; whether it is gone."""
        tables = self._environment.tables
        with self._environment.write() as txn:
            record = txn.get(number, db=tables.queues)
            if record is None:
                return True
            vm, first, following, size = QUEUE.unpack(record)
            batch = list(islice(rows(txn, tables.items, number), DROP_BATCH))
            for key, data in batch:
                txn.delete(key, db=tables.items)
                size -= len(data)
            if first + len(batch) < following:
                txn.put(number, QUEUE.pack(vm, first + len(batch), following, size), db=tables.queues)
                return False
            txn.delete(name, db=tables.names)
            txn.delete(number, db=tables.queues)
            ReadyTables(self._environment, txn).drop(U32.unpack(number)[0])
            return True

    def _me(self, owner: int) -> Registrant:
        return Registrant(self._worker.number, owner)

    def _wake(self, workers: Iterable[int]) -> None:
        """One that turns out to be dead is buried in `take_ready`: that takes longer than the guest that calls may be kept."""
        for number in workers:
            if not self._worker.wake(number):
                self._found_dead = True
        if self._found_dead:
            self._worker.wake(self._worker.number)

    def statistics(self) -> dict[str, int]:
        with self._environment.read() as txn:
            queues = [QUEUE.unpack(record) for _, record in rows(txn, self._environment.tables.queues)]
            waiting = sum(U64.unpack(count)[0] for _, count in rows(txn, self._environment.tables.ready))
        return {
            "queues": len(queues),
            "items": sum(following - first for _, first, following, _ in queues),
            "bytes": sum(size for _, _, _, size in queues),
            "events": waiting,
            "queue_items_limit": self._items,
            "queue_bytes_limit": self._bytes,
        }

    def __repr__(self) -> str:
        counts = self.statistics()
        return f"<SharedQueues of {self._worker!r} queues={counts['queues']} items={counts['items']} events={counts['events']}>"


assert VM_BYTES == 16, "QUEUE's layout"
