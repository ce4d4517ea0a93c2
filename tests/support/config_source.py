"""A scripted store under a config watcher: every call and every result stands in one journal.

The law: revisions, batches and compaction behave as the store contract says; a test decides when the store is away and when
a batch is let through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from data_plane.config.snapshot import Snapshot, WasmPlugin
from data_plane.config.watcher import ConfigWatcher
from shared.keys import Kind, resource_key
from shared.store.contract import Batch, Compacted, Entry, Event, Listing, StoreUnavailable
from tests.support.config import document


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # plain objects have no event to wait for
            await asyncio.sleep(0.001)


@dataclass
class ScriptedSource:
    """`away`: every call fails. `breaks`: the watch that is running fails once."""

    journal: list[str] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    revision: int = 0
    compacted: int = 0
    away: bool = False
    breaks: StoreUnavailable | Compacted | None = None
    ends: bool = False
    closed: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, kind: Kind, id: str, value: Mapping[str, object] | bytes) -> None:
        self.write({(kind, id): value})

    def delete(self, kind: Kind, id: str) -> None:
        self.write({(kind, id): None})

    def write(self, values: Mapping[tuple[Kind, str], Mapping[str, object] | bytes | None]) -> None:
        """All in one revision; None deletes."""
        self.revision += 1
        events = []
        for (kind, id), value in values.items():
            key = resource_key(kind, id)
            if value is None:
                del self.entries[key]
                events.append(Event(key, self.revision, None))
            else:
                self.entries[key] = Entry(key, document(value), self.revision, self.revision)
                events.append(Event(key, self.revision, self.entries[key]))
        self.deliver(Batch(self.revision, tuple(events)))

    def progress(self) -> None:
        self.revision += 1
        self.deliver(Batch(self.revision, ()))

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._changed.set()

    def compact(self) -> None:
        self.compacted = self.revision

    def wipe(self) -> None:
        self.entries.clear()
        self.batches.clear()
        self.revision = self.compacted = 0

    def go_away(self) -> None:
        self.away = True
        self.break_watch(StoreUnavailable("it went away"))

    def break_watch(self, error: StoreUnavailable | Compacted) -> None:
        self.breaks = error
        self._changed.set()

    def end_watch(self) -> None:
        self.ends = True
        self._changed.set()

    async def list(self, prefix: str) -> Listing:
        if self.away:
            self.journal.append("list fails")
            raise StoreUnavailable("nobody listens")
        self.journal.append("list")
        return Listing(self.revision, tuple(entry for _, entry in sorted(self.entries.items())))

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Batch]:
        self.journal.append(f"watch {from_revision}")
        if from_revision <= self.compacted:
            raise Compacted(self.compacted)
        at = from_revision - 1
        try:
            while True:
                for batch in [batch for batch in self.batches if batch.revision > at]:
                    at = batch.revision
                    yield batch
                if self.breaks is not None:
                    error, self.breaks = self.breaks, None
                    raise error
                if self.ends:
                    self.ends = False
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.closed += 1


@dataclass
class Worker:
    """What stands around a watcher: modules to make ready and a place for the snapshot."""

    source: ScriptedSource
    snapshot: Snapshot | None = None
    unusable: dict[str, str] = field(default_factory=dict)
    fetch_fails: int = 0
    gate: asyncio.Event | None = None
    watcher: ConfigWatcher = field(init=False)

    def __post_init__(self) -> None:
        self.watcher = ConfigWatcher(self.source, self.prepare, self.publish)

    async def prepare(self, plugin: WasmPlugin) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.fetch_fails:
            self.fetch_fails -= 1
            self.source.journal.append(f"prepare {plugin.name} fails")
            raise StoreUnavailable("no module now")
        self.source.journal.append(f"prepare {plugin.name}")
        if plugin.name in self.unusable:
            raise ValueError(self.unusable[plugin.name])

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.source.journal.append(f"publish {snapshot.revision}: {' '.join(sorted(snapshot.routes))}".rstrip())

    @property
    def served(self) -> list[str]:
        return sorted(self.snapshot.routes) if self.snapshot else []

    async def at(self, revision: int) -> None:
        await eventually(lambda: self.watcher.applied_revision == revision)


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[Worker]:
    task = asyncio.create_task(worker.watcher.run())
    try:
        yield worker
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
