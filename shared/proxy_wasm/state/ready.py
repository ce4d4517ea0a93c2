"""Who is told that a queue has an item: the rows behind `proxy_on_queue_ready`, changed inside the caller's transaction.

The law: a queue's events go to the registrant that came last of those that are left; while there is none they wait for the
next. Every event is a count in a row until its worker takes it. When a registrant goes, dead or released, its queues are
counted anew: whoever takes over gets one event for each item that is still there and that no other event announces. So
nothing is lost with a worker that took its events and died before it acted on them.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

import lmdb

from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U32, U64, rows
from shared.proxy_wasm.state.workers import NOBODY

# vm, number of the first item, number of the next item, bytes held.
QUEUE = Struct(">16sQQQ")

_ADDRESS = Struct(">QQI")
_STAMPED = Struct(">IQ")
_LAST_STAMP = (1 << 64) - 1


class Registrant(NamedTuple):
    """A plugin context: its worker, and the token that this worker knows it by."""

    worker: int
    owner: int


UNCLAIMED = Registrant(NOBODY, 0)
_REGISTRANT = Struct(">QQ")


class ReadyTables:
    """A transaction's view of the events; lives as long as the transaction."""

    __slots__ = ("_environment", "_tables", "_txn")

    def __init__(self, environment: Environment, txn: lmdb.Transaction[bytes]) -> None:
        self._environment = environment
        self._tables = environment.tables
        self._txn = txn

    def register(self, queue: int, who: Registrant) -> bool:
        """Makes `who` the one who is told; true when events had been waiting for somebody."""
        self._forget(queue, who)
        stamp = self._environment.next_number(self._txn, b"stamp")
        self._txn.put(_STAMPED.pack(queue, stamp), _REGISTRANT.pack(*who), db=self._tables.registrants)
        self._txn.put(_ADDRESS.pack(*who, queue), U64.pack(stamp), db=self._tables.registrations)
        if not self._txn.delete(_ADDRESS.pack(*UNCLAIMED, queue), db=self._tables.ready):
            return False
        return self._announce_what_is_left(queue) is not None

    def notify(self, queue: int) -> Registrant | None:
        """Counts an event for the queue's registrant; returns whom to wake after the commit.

        None: nobody is there, or somebody who has been woken and has not taken the event before.
        """
        target = self._target(queue)
        return None if self._count(target, queue, 1) or target == UNCLAIMED else target

    def _count(self, target: Registrant, queue: int, events: int) -> int:
        """Adds to a row; returns what it held."""
        address = _ADDRESS.pack(*target, queue)
        held = self._txn.get(address, db=self._tables.ready)
        count: int = U64.unpack(held)[0] if held else 0
        self._txn.put(address, U64.pack(count + events), db=self._tables.ready)
        return count

    def take(self, worker: int, limit: int) -> tuple[list[tuple[int, int]], bool]:
        """About `limit` events of this worker, as (owner, queue), and whether there are more.

        Every queue gets its share, at least one event, so that a busy one does not hold up the others.
        """
        waiting = list(rows(self._txn, self._tables.ready, U64.pack(worker)))
        share = max(1, limit // max(1, len(waiting)))
        taken: list[tuple[int, int]] = []
        more = False
        for address, value in waiting:
            count: int = U64.unpack(value)[0]
            _, owner, queue = _ADDRESS.unpack(address)
            taken.extend([(owner, queue)] * min(count, share))
            if count > share:
                self._txn.put(address, U64.pack(count - share), db=self._tables.ready)
                more = True
            else:
                self._txn.delete(address, db=self._tables.ready)
        return taken, more

    def release(self, worker: int, owner: int | None = None) -> set[int]:
        """A registrant, or all of a worker, is gone; returns the workers that have something to take now."""
        prefix = U64.pack(worker) if owner is None else _REGISTRANT.pack(worker, owner)
        registered = [_ADDRESS.unpack(key) for key, _ in rows(self._txn, self._tables.registrations, prefix)]
        waiting = [_ADDRESS.unpack(key) for key, _ in rows(self._txn, self._tables.ready, prefix)]
        told = {queue for gone, token, queue in registered if self._target(queue) == (gone, token)}
        for gone, token, queue in registered:
            self._forget(queue, Registrant(gone, token))
        for address in waiting:
            self._txn.delete(_ADDRESS.pack(*address), db=self._tables.ready)
        heirs = [self._announce_what_is_left(queue) for queue in sorted(told | {queue for _, _, queue in waiting})]
        return {heir.worker for heir in heirs if heir is not None and heir != UNCLAIMED}

    def drop(self, queue: int) -> None:
        """The queue itself is gone."""
        for _, who in list(rows(self._txn, self._tables.registrants, U32.pack(queue))):
            self._forget(queue, Registrant(*_REGISTRANT.unpack(who)))
        for address in self._events_of(queue):
            self._txn.delete(address, db=self._tables.ready)

    def _announce_what_is_left(self, queue: int) -> Registrant | None:
        """None when every item that is left has its event already."""
        record = self._txn.get(U32.pack(queue), db=self._tables.queues)
        if record is None:
            return None
        _, first, following, _ = QUEUE.unpack(record)
        announced = sum(self._events_of(queue).values())
        silent: int = following - first - announced
        if silent <= 0:
            return None
        target = self._target(queue)
        self._count(target, queue, silent)
        return target

    def _events_of(self, queue: int) -> dict[bytes, int]:
        """There are as many rows as registrants with undelivered events: few."""
        return {
            address: U64.unpack(count)[0]
            for address, count in rows(self._txn, self._tables.ready)
            if _ADDRESS.unpack(address)[2] == queue
        }

    def _target(self, queue: int) -> Registrant:
        """The registrant with the highest stamp: the row before the place where the next queue's rows begin."""
        with self._txn.cursor(self._tables.registrants) as cursor:
            beyond = cursor.set_range(_STAMPED.pack(queue, _LAST_STAMP))
            found = cursor.prev() if beyond else cursor.last()
            if not found or _STAMPED.unpack(cursor.key())[0] != queue:
                return UNCLAIMED
            return Registrant(*_REGISTRANT.unpack(cursor.value()))

    def _forget(self, queue: int, who: Registrant) -> None:
        stamp = self._txn.pop(_ADDRESS.pack(*who, queue), db=self._tables.registrations)
        if stamp is not None:
            self._txn.delete(U32.pack(queue) + stamp, db=self._tables.registrants)
