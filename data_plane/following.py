"""A worker at its configuration store: it opens it, is in its registry, follows it, and has something to begin with when it
is away.

The law: the entry in the registry comes before the first listing (observe/registration.py says why), but a store that does
not answer holds up nothing: what was kept on disk is served meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import structlog

from data_plane.config.kept import KeptSnapshot, kept_path
from data_plane.config.watcher import PATIENCE_SECONDS, ConfigWatcher
from data_plane.observe.registration import Registration
from shared.store.blobs import get_module
from shared.store.contract import ConfigStore, Listing, StoreUnavailable

log = structlog.get_logger(__name__)

# A store that cannot even be opened (a file on a disk that is not mounted yet) is tried again so often.
STORE_RETRY_SECONDS = 0.5
# What these name is on another host, or may be.
REMOTE = ("etcd://", "etcds://")


def kept_of(store: str, worker: int) -> KeptSnapshot | None:
    """Where the configuration of a store is kept. The first worker of each data plane writes."""
    return KeptSnapshot(kept_path(store), writes=worker == 1) if store.startswith(REMOTE) else None


class Following:
    def __init__(self, store: ConfigStore, kept: KeptSnapshot | None) -> None:
        self._store = store
        self._kept = kept

    async def run(self, watcher: ConfigWatcher, registration: Registration | None) -> None:
        """Never returns. There is no registration in a store that takes no writes."""
        watcher.kept = None if self._kept is None else _WhileAway(self._store, self._kept)
        async with AsyncExitStack() as stack:
            await self._open(stack)
            if self._kept is not None:
                stack.push_async_callback(self._kept.close)
            if registration is not None:
                await _register(stack, registration)
            await watcher.run()

    async def fetch_module(self, sha256: str) -> bytes | None:
        """Its bytes; None when there is none. Raises StoreError."""
        data = None if self._kept is None else await self._kept.module(sha256)
        if data is None:
            data = await get_module(self._store, sha256)
            if self._kept is not None and data is not None:
                self._kept.fetched(sha256, data)
        return data

    async def _open(self, stack: AsyncExitStack) -> None:
        said = False
        while True:
            try:
                await stack.enter_async_context(self._store)
            except StoreUnavailable as error:
                if not said:
                    log.warning("config store cannot be opened", reason=str(error))
                said = True
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                return


class _WhileAway:
    """What is kept is needed by nobody while the store answers, however long a listing of it takes."""

    def __init__(self, store: ConfigStore, kept: KeptSnapshot) -> None:
        self._store = store
        self._kept = kept
        self.listed = kept.listed
        self.changed = kept.changed

    async def read(self) -> Listing | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._store.revision()
        except (StoreUnavailable, TimeoutError):
            return await self._kept.read()
        return None


async def _register(stack: AsyncExitStack, registration: Registration) -> None:
    registering = asyncio.create_task(registration.run(), name="registration")
    stack.push_async_callback(_end, registering)
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await registration.tried.wait()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
