"""`?wait=applied`: the answer to a write comes when every live worker serves it.

The law: the write is done before anybody waits, and waiting never undoes it. A worker is live while its entry is in the
registry; the wait asks the store itself for those that were there (a mark that comes through the same watch), so none is
missed. Who cannot use just this object is told of at once, who is late when the time is over.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_plane.cluster.registry import Registry
from control_plane.errors import BadRequest
from shared.data_planes import WorkerEntry, data_plane_of
from shared.keys import AWAITED_KEY, AWAITED_MARK
from shared.schema.errors import excerpt
from shared.store.contract import ConfigStore, Put, StoreUnavailable

DEFAULT_SECONDS: Final = 10.0
MOST_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`workers` serve the write. `refused` and `late` do not; each is a JSON object that names the worker and says why."""

    workers: int
    refused: tuple[dict[str, object], ...] = ()
    late: tuple[dict[str, object], ...] = ()

    @property
    def is_applied(self) -> bool:
        return not self.refused and not self.late


def wait_seconds(query: Mapping[str, str]) -> float | None:
    """How long a request wants to wait; None when it does not. Raises BadRequest."""
    wait, timeout = query.get("wait"), query.get("timeout")
    if wait is None:
        return None
    if wait != "applied":
        raise BadRequest(f"invalid argument wait: expected applied, got {excerpt(wait)}")
    if timeout is None:
        return DEFAULT_SECONDS
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MOST_SECONDS:
        raise BadRequest(f"invalid argument timeout: expected 0 to {MOST_SECONDS:g} seconds, got {excerpt(timeout)}")
    return seconds


async def wait_until_applied(
    store: ConfigStore, registry: Registry, revision: int, keys: frozenset[str], seconds: float
) -> Outcome:
    """Until all live workers are at `revision`, or one has a problem with one of `keys`, or the time is over."""
    with registry.followed() as changed:
        mark = math.inf
        try:
            async with asyncio.timeout(seconds):
                mark = await _announce(store)
                while True:
                    changed.clear()
                    if registry.revision >= mark:
                        found = _look(registry.workers, revision, keys)
                        if found.is_applied or found.refused:
                            return found
                    await changed.wait()
        except TimeoutError:
            if registry.revision < mark:
                return Outcome(0, late=({"reason": "the registry of data planes could not be read in time"},))
            return _look(registry.workers, revision, keys)
        except StoreUnavailable as error:
            return Outcome(0, late=({"reason": f"the registry of data planes cannot be read: {error}"},))


async def _announce(store: ConfigStore) -> int:
    """Have the workers say how far they are; the revision at which the registry has all that were there."""
    return (await store.transaction((), (Put(AWAITED_KEY, b"{}"), Put(AWAITED_MARK, b"{}")))).revision


def _look(workers: Mapping[str, WorkerEntry], revision: int, keys: frozenset[str]) -> Outcome:
    refused: list[dict[str, object]] = []
    late: list[dict[str, object]] = []
    for key, worker in sorted(workers.items()):
        if worker.revision < revision:
            late.append(_row(key, worker, f"it serves revision {worker.revision}, the write is {revision}"))
            continue
        problem = next((worker.problems[one] for one in sorted(keys) if one in worker.problems), None)
        if problem is not None:
            refused.append(_row(key, worker, problem))
    return Outcome(len(workers) - len(refused) - len(late), tuple(refused), tuple(late))


def _row(key: str, worker: WorkerEntry, reason: str) -> dict[str, Any]:
    return {
        "data_plane": data_plane_of(key),
        "host": worker.host,
        "worker": worker.worker,
        "pid": worker.pid,
        "revision": worker.revision,
        "reason": reason,
    }
