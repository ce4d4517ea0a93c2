"""A worker's entry in the store's registry of data planes.

The law: the entry is there before the worker reads its configuration, so whoever finds no entry knows that the worker has
read, or will read, everything written before. Its revision is written when it changes, not more often than anybody needs:
at once when somebody waits for it, and within two seconds otherwise, however many changes come. A store that is away or
refuses costs the worker its entry and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final, Protocol

import structlog

from shared.data_planes import LEASE_SECONDS, WorkerEntry, decode
from shared.keys import DATA_PLANE_PREFIX, worker_key
from shared.store.contract import LeaseNotFound, Listing, StoreError, StoreRefused, StoreUnavailable

RENEW_SECONDS: Final = LEASE_SECONDS / 4
# Between two reports that somebody waits for, and the longest until one that nobody waits for: with a thousand workers and
# a change every second the store gets 700 writes a second.
PROMPT_SECONDS: Final = 0.02
LAZY_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 2.0
# A worker that ends does not wait longer for a store that does not answer.
LEAVE_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class Registry(Protocol):
    """What it needs of a ConfigStore."""

    async def list(self, prefix: str) -> Listing: ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int: ...

    async def delete(self, key: str) -> bool: ...

    async def grant_lease(self, ttl_seconds: int) -> int: ...

    async def keep_alive(self, lease: int) -> bool: ...

    async def revoke_lease(self, lease: int) -> None: ...


class Registration:
    """Of one worker of the data plane `data_plane`; `entry` says how it is now. `tried` is set when the entry is there, or
    cannot be for now. `is_answered`: the store answered last, be it by a refusal."""

    def __init__(self, store: Registry, data_plane: str, entry: Callable[[], WorkerEntry]) -> None:
        self._store = store
        self._data_plane = data_plane
        self._entry = entry
        self._lease = 0
        self._written_at = -inf
        self._due = inf
        self._woken = asyncio.Event()
        self._is_refused = False
        self._has_cleared = False
        self.is_answered = True
        self.tried = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled; then the entry is taken out."""
        try:
            while True:
                try:
                    await self._keep()
                except LeaseNotFound:
                    log.info("registration has expired, it is made again")
                except StoreError as error:
                    self.is_answered = not isinstance(error, StoreUnavailable) or isinstance(error, StoreRefused)
                    self._note(str(error))
                self.tried.set()
                await asyncio.sleep(random.uniform(RETRY_SECONDS / 2, RETRY_SECONDS))
        finally:
            await self._leave()

    def changed(self, *, awaited: bool) -> None:
        """Another revision is served."""
        now = _now()
        due = self._written_at + PROMPT_SECONDS if awaited else now + random.uniform(LAZY_SECONDS / 2, LAZY_SECONDS)
        if due < self._due:
            self._due = due
            self._woken.set()

    async def _keep(self) -> None:
        """Raises StoreError, such as LeaseNotFound when it was away for too long."""
        self._lease = await self._store.grant_lease(LEASE_SECONDS)
        await self._clear()
        await self._write()
        self.is_answered = True
        self._note(None)
        self.tried.set()
        renew_at = _now() + RENEW_SECONDS
        while True:
            await self._until(min(self._due, renew_at))
            if _now() >= self._due:
                await self._write()
            if _now() >= renew_at:
                if not await self._store.keep_alive(self._lease):
                    raise LeaseNotFound(f"lease {self._lease}")
                renew_at = _now() + RENEW_SECONDS

    async def _until(self, at: float) -> None:
        """Or until something is due earlier."""
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, at - _now())):
                await self._woken.wait()

    async def _write(self) -> None:
        entry = self._entry()
        self._due, self._written_at = inf, _now()
        key = worker_key(self._data_plane, entry.worker, entry.pid)
        await self._store.put(key, entry.encode(), lease=self._lease)

    async def _clear(self) -> None:
        """Take out those of this data plane that crashed, instead of waiting for the ends of their leases."""
        if self._has_cleared:
            return
        for found in (await self._store.list(f"{DATA_PLANE_PREFIX}{self._data_plane}/")).entries:
            entry = decode(found.value)
            if entry is not None and not _lives(entry.pid):
                await self._store.delete(found.key)
        self._has_cleared = True

    async def _leave(self) -> None:
        if self._lease:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._store.revoke_lease(self._lease)

    def _note(self, problem: str | None) -> None:
        if problem is not None and not self._is_refused:
            log.warning("this worker is not in the registry of data planes, nobody can wait for it", reason=problem)
        if problem is None and self._is_refused:
            log.info("this worker is in the registry of data planes again")
        self._is_refused = problem is not None


def _lives(pid: int) -> bool:
    """Of a process of this data plane: same host, same user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()
