"""A store's changes as they are meant: what was written in several transactions because one could not hold it is seen at once.

The law: while a batch is being made (shared/keys.py, BATCH_KEY) nothing of it is seen, neither in a list nor in a watch; then
all of it is, as one batch of changes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from shared.keys import BATCH_KEY
from shared.store.contract import Batch, Event, Listing

# Between two looks whether a batch that a list met is complete.
LOOK_SECONDS = 0.1


class Source(Protocol):
    async def list(self, prefix: str) -> Listing: ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]: ...


class WholeSource:
    __slots__ = ("_store",)

    def __init__(self, store: Source) -> None:
        self._store = store

    async def list(self, prefix: str) -> Listing:
        listing = await self._store.list(prefix)
        while any(entry.key == BATCH_KEY for entry in listing.entries):
            if (await self._store.list(BATCH_KEY)).entries:
                # Not by a watch: who is to be heard of may be gone, and the key with him.
                await asyncio.sleep(random.uniform(LOOK_SECONDS / 2, LOOK_SECONDS))
            else:
                listing = await self._store.list(prefix)
        return listing

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        held: list[Event] = []
        holding = False
        batches = self._store.watch(prefix, from_revision)
        try:
            async for batch in batches:
                for event in batch.events:
                    if event.key == BATCH_KEY:
                        holding = event.entry is not None
                if holding:
                    held += batch.events
                    continue
                yield Batch(batch.revision, (*held, *batch.events)) if held else batch
                held = []
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()
