"""What becomes of a dead worker: its counts stay in the sums, its events go to others, its place is cleared.

The law: a transaction moves each count from the dead worker's row to nobody's, so no sum has it twice or not at all, whoever
buries it, however many try, and wherever they die themselves. Any worker does it: on a timer, when it joins, and when it
finds that nobody answers a wake-up.
"""

from __future__ import annotations

from typing import Final

import lmdb

from shared.proxy_wasm.state.directory import pipe_path
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U64
from shared.proxy_wasm.state.metric_table import fold
from shared.proxy_wasm.state.ready import ReadyTables
from shared.proxy_wasm.state.workers import Worker

# Moved in one transaction: 1 ms in which other workers wait.
FOLD_BATCH: Final = 250


def bury(environment: Environment, worker: Worker) -> int:
    """Takes care of all dead workers but the caller's own, until everybody who was woken for it lives; returns how many."""
    buried = 0
    try:
        while dead := worker.dead():
            heirs = settle(environment, dead)
            buried += len(dead)
            for heir in heirs:
                worker.wake(heir)
    except lmdb.Error as error:
        environment.failed(error)
    return buried


def settle(environment: Environment, numbers: list[int]) -> set[int]:
    """Clears the places of these workers; returns the workers that have events to take because of it."""
    heirs: set[int] = set()
    for number in numbers:
        while not _settle_some(environment, number, heirs):
            pass
        pipe_path(environment.directory, number).unlink(missing_ok=True)
    return heirs


def _settle_some(environment: Environment, number: int, heirs: set[int]) -> bool:
    """Whether the place is clear now. Another worker may be at the same grave: each count is moved by one of them."""
    with environment.write() as txn:
        tables = environment.tables
        if not all(fold(txn, table, number, FOLD_BATCH) for table in (tables.metrics, tables.gateway)):
            return False
        heirs |= ReadyTables(environment, txn).release(number)
        txn.delete(U64.pack(number), db=tables.reports)
        txn.delete(U64.pack(number), db=tables.workers)
        return True
