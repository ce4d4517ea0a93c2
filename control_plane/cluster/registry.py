"""The registry of data planes as this control plane sees it: who serves, and how far each worker is.

The law: the view is that of one revision of the store, and moves with a watch; nobody polls. It is followed from the first
time that somebody waits for a change, and never before: a control plane that nobody asks costs its store nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Final, cast

import structlog

from shared.data_planes import WorkerEntry, data_plane_of, decode
from shared.keys import DATA_PLANE_PREFIX
from shared.store.contract import Batch, Compacted, ConfigStore, Entry, StoreUnavailable

RETRY_SECONDS: Final = 0.5

log = structlog.get_logger()

# By data plane and the rest of the key.
Workers = dict[str, WorkerEntry]


class Registry:
    """Use it on one event loop; `close` ends what it has begun."""

    def __init__(self, store: ConfigStore) -> None:
        self._store = store
        self._following: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Event] = set()
        self.workers: Workers = {}
        self.revision = 0

    async def read(self) -> Workers:
        """Of all data planes, as they are in the store now."""
        listing = await self._store.list(DATA_PLANE_PREFIX)
        return {entry.key: worker for entry in listing.entries if (worker := _worker(entry)) is not None}

    @contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change from now on; the listener clears it before it looks."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="registry of data planes")
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            yield changed
        finally:
            self._waiting.discard(changed)

    async def close(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._list_and_watch()
            except Compacted as error:
                log.info("history of the registry is gone, listing again", reason=str(error))
            except StoreUnavailable as error:
                log.warning("registry of data planes cannot be followed", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _list_and_watch(self) -> None:
        listing = await self._store.list(DATA_PLANE_PREFIX)
        self.workers = {entry.key: worker for entry in listing.entries if (worker := _worker(entry)) is not None}
        self._moved(listing.revision)
        batches = cast("AsyncGenerator[Batch]", self._store.watch(DATA_PLANE_PREFIX, listing.revision + 1))
        async with aclosing(batches):
            async for batch in batches:
                for event in batch.events:
                    worker = None if event.entry is None else _worker(event.entry)
                    if worker is None:
                        self.workers.pop(event.key, None)
                    else:
                        self.workers[event.key] = worker
                self._moved(batch.revision)

    def _moved(self, revision: int) -> None:
        self.revision = revision
        for changed in self._waiting:
            changed.set()


def _worker(entry: Entry) -> WorkerEntry | None:
    return None if data_plane_of(entry.key) is None else decode(entry.value)
