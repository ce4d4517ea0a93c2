"""The two engines of the configuration store, as the contract suite sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.store.contract import Batch, Compacted, ConfigStore, Event
from shared.store.sqlite import SqliteStore
from shared.store.url import open_store
from tests.support.etcd import Etcd


@dataclass
class Backend:
    """One place where configuration is kept, which any number of stores can open."""

    url: str
    server: Etcd | None = None

    def open(self) -> ConfigStore:
        return open_store(self.url)

    async def compact(self, store: ConfigStore, revision: int) -> None:
        if self.server is not None:
            await self.server.control("compact", str(revision))
        else:
            assert isinstance(store, SqliteStore)
            await store.compact(revision)


@dataclass
class Watched:
    """What a watch has delivered so far, checked for order while it arrives."""

    batches: list[Batch] = field(default_factory=list)
    ended: BaseException | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    @property
    def changes(self) -> list[tuple[str, bytes | None]]:
        return [(event.key, event.entry.value if event.entry else None) for event in self.events]

    @property
    def revision(self) -> int:
        return self.batches[-1].revision if self.batches else 0

    async def follow(self, batches: AsyncIterator[Batch]) -> None:
        try:
            async for batch in batches:
                assert batch.revision > self.revision, "a batch that goes back"
                assert all(self.revision < event.revision <= batch.revision for event in batch.events)
                self.batches.append(batch)
                self._arrived.set()
        except Exception as error:
            self.ended = error
            self._arrived.set()

    async def has(self, count: int, seconds: float = 5.0) -> None:
        """Wait for that many events."""
        async with asyncio.timeout(seconds):
            while len(self.events) < count and self.ended is None:
                self._arrived.clear()
                await self._arrived.wait()
        if self.ended is not None:
            raise self.ended

    async def is_compacted(self, seconds: float = 5.0) -> Compacted:
        async with asyncio.timeout(seconds):
            while self.ended is None:
                self._arrived.clear()
                await self._arrived.wait()
        assert isinstance(self.ended, Compacted), f"expected Compacted, got {self.ended!r}"
        return self.ended


@asynccontextmanager
async def watching(store: ConfigStore, prefix: str, from_revision: int) -> AsyncIterator[Watched]:
    watched = Watched()
    task = asyncio.create_task(watched.follow(store.watch(prefix, from_revision)))
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
