"""From the store to the worker: list, compile, publish, then the same for every change, for ever.

The law: a snapshot holds whole batches only, and `applied_revision` never runs ahead of what was published. Whatever
happens to the store, the last snapshot stays in service: an outage is waited out, lost history is listed again (what
did not change is not compiled again). A snapshot that needs a new module is published when the module is ready, or
without it when it is unusable. Batches that arrive while one is being worked on are compiled together.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Protocol, TypeVar

import structlog

from data_plane.balance.health import Watchers
from data_plane.config.compiler import Compiler
from data_plane.config.consumer_index import ConsumerIndex
from data_plane.config.pacing import SLICE_SECONDS, in_slices
from data_plane.config.snapshot import Snapshot, WasmPlugin
from data_plane.config.whole import WholeSource
from data_plane.routing.steps import Steps
from data_plane.secrets.values import Values
from shared.keys import AWAITED_KEY, CONFIG_PREFIX, parse_resource_key
from shared.plugin.host import Host
from shared.store.contract import Batch, Compacted, Listing, StoreError, StoreUnavailable

# A change made after an outage is live within 5 seconds; this leaves room for the listing and the modules.
LONGEST_DELAY = 2.0
FIRST_DELAY = 0.05
# Batches held between the watch and the compiler; beyond it the store keeps them (tens of MiB at the very most).
MOST_WAITING = 256
# So long a worker that has just started waits for the store before it serves what was kept of it.
PATIENCE_SECONDS = 2.0
# Keys that were written last.
MOST_RECENT = 64
T = TypeVar("T")
# What a worker has to work on: a change, the end of the watch, or references that mean something else now.
Arrived = Batch | StoreError | frozenset[str]
log = structlog.get_logger(__name__)


class ConfigSource(Protocol):
    """The reading half of a ConfigStore."""

    async def list(self, prefix: str) -> Listing: ...

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]: ...


class Kept(Protocol):
    """What is kept of the store for a start without it."""

    async def read(self) -> Listing | None: ...

    def listed(self, listing: Listing) -> None: ...

    def changed(self, batch: Batch) -> None: ...


class ConfigWatcher:
    """`prepare` makes a plugin's module ready: ValueError when that is impossible, StoreUnavailable to be asked again.
    `on_applied` hears of every revision with changes once it is served, and whether somebody waits for that."""

    def __init__(
        self,
        store: ConfigSource,
        prepare: Callable[[WasmPlugin], Awaitable[None]],
        on_snapshot: Callable[[Snapshot], None],
        watchers: Watchers | None = None,
        host: Host | None = None,
        consumers: ConsumerIndex | None = None,
    ) -> None:
        self._store = WholeSource(store)
        self._prepare = prepare
        self._on_snapshot = on_snapshot
        self._compiler = Compiler(watchers, host, consumers)
        self._delays = _delays()
        self._is_reachable = True
        self.kept: Kept | None = None
        self._to_keep: Listing | None = None
        self.on_applied: Callable[[bool], None] = lambda awaited: None
        self.ready = asyncio.Event()
        self.is_stale = False
        self.applied_revision = 0
        self.problems: Mapping[str, str] = {}
        self.recent: deque[str] = deque(maxlen=MOST_RECENT)

    def use(self, values: Values) -> None:
        """Before it runs: what secrets and references are."""
        self._compiler.values = values

    def __repr__(self) -> str:
        state = "following" if self._is_reachable else "waiting for the store"
        return f"<ConfigWatcher {state}, revision {self.applied_revision}, {len(self.problems)} problems>"

    @property
    def is_reachable(self) -> bool:
        """The store answered last, and there was a first answer."""
        return self._is_reachable and self.ready.is_set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            try:
                await self._follow()
            except Compacted as error:
                log.info("config history is gone, listing again", reason=str(error))
            except StoreUnavailable as error:
                self._note_outage(error)
            await asyncio.sleep(next(self._delays))

    async def _follow(self) -> None:
        revision = await self._load()
        await self._publish(revision)
        self.on_applied(False)
        # Not before it is served: writing 100,000 routes takes a thread a second.
        listing, self._to_keep = self._to_keep, None
        if self.kept is not None and listing is not None:
            self.kept.listed(listing)
        del listing
        waiting: asyncio.Queue[Arrived] = asyncio.Queue(MOST_WAITING)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(revision + 1, waiting), name="config watch")
            renewing = group.create_task(self._renew(waiting), name="secrets")
            error = await self._apply_all(waiting)
            renewing.cancel()
        raise error

    async def _load(self) -> int:
        listing = await self._listing()
        self._note_recovery()
        await self._paced(self._compiler.load(listing))
        self.is_stale = False
        if self.kept is not None:
            self._to_keep = listing
        return listing.revision

    async def _listing(self) -> Listing:
        listing = asyncio.ensure_future(self._store.list(CONFIG_PREFIX))
        try:
            if self.kept is not None and not self.ready.is_set():
                await asyncio.wait({listing}, timeout=PATIENCE_SECONDS)
                if not listing.done() or isinstance(listing.exception(), StoreUnavailable):
                    await self._serve_kept(self.kept)
            return await listing
        finally:
            listing.cancel()

    async def _serve_kept(self, kept: Kept) -> None:
        listing = await kept.read()
        if listing is None:
            return
        log.warning("config store does not answer, serving the last snapshot on disk", revision=listing.revision)
        self.is_stale = True
        await self._paced(self._compiler.load(listing))
        await self._publish(listing.revision)
        self.on_applied(False)

    async def _renew(self, waiting: asyncio.Queue[Arrived]) -> None:
        while True:
            await waiting.put(frozenset(await self._compiler.values.renewed()))

    async def _pump(self, from_revision: int, waiting: asyncio.Queue[Arrived]) -> None:
        batches = self._store.watch(CONFIG_PREFIX, from_revision)
        try:
            async for batch in batches:
                await waiting.put(batch)
        except StoreError as error:
            await waiting.put(error)
        else:
            await waiting.put(StoreUnavailable("the watch ended"))
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()

    async def _apply_all(self, waiting: asyncio.Queue[Arrived]) -> StoreError:
        """Returns the error that ended the watch, once everything before it is published."""
        while True:
            arrived = [await waiting.get()]
            while not waiting.empty():
                arrived.append(waiting.get_nowait())
            batches = [item for item in arrived if isinstance(item, Batch)]
            if batches:
                self._delays = _delays()
                await self._apply(batches)
            renewed = {reference for item in arrived if isinstance(item, frozenset) for reference in item}
            if renewed:
                await self._paced(self._compiler.renew(renewed))
                await self._publish(self.applied_revision)
            for item in arrived:
                if isinstance(item, StoreError):
                    return item

    async def _apply(self, batches: list[Batch]) -> None:
        changed = [event.key for batch in batches for event in batch.events]
        for batch in batches:
            if self.kept is not None:
                self.kept.changed(batch)
            await self._paced(self._compiler.apply(batch))
        if any(map(parse_resource_key, changed)):
            self.recent.extend(changed)
            await self._publish(batches[-1].revision)
        else:
            self.applied_revision = batches[-1].revision
        if changed:
            self.on_applied(AWAITED_KEY in changed)

    async def _publish(self, revision: int) -> None:
        settled = await self._compiler.values.settle()
        if settled:
            await self._paced(self._compiler.renew(settled))
        unusable: dict[str, str] = {}
        async with asyncio.TaskGroup() as group:
            for plugin in self._compiler.begin():
                group.create_task(self._make_ready(plugin, unusable), name=f"prepare {plugin.name}")
        snapshot = await self._paced(self._compiler.commit(unusable))
        self._report(self._compiler.problems)
        self._on_snapshot(snapshot)
        self.applied_revision = revision
        self.ready.set()
        await self._paced(self._compiler.let_go())

    async def _paced(self, steps: Steps[T]) -> T:
        return await in_slices(steps, SLICE_SECONDS if self.ready.is_set() else 0)

    async def _make_ready(self, plugin: WasmPlugin, unusable: dict[str, str]) -> None:
        for delay in _delays():
            try:
                await self._prepare(plugin)
            except StoreUnavailable as error:
                self._note_outage(error)
                await asyncio.sleep(delay)
                continue
            except (ValueError, StoreError) as error:
                unusable[plugin.name] = str(error)
            self._note_recovery()
            return

    def _report(self, problems: Mapping[str, str]) -> None:
        before, self.problems = self.problems, problems
        for key, problem in problems.items():
            if before.get(key) != problem:
                log.warning("config item has a problem", key=key, problem=problem)
        for key in before.keys() - problems.keys():
            log.info("config item is good again or gone", key=key)

    def _note_outage(self, error: StoreUnavailable) -> None:
        if self._is_reachable:
            log.warning("config store cannot be reached, serving what is known", reason=str(error))
        self._is_reachable = False

    def _note_recovery(self) -> None:
        if not self._is_reachable:
            log.info("config store is reachable again")
        self._is_reachable = True


def _delays() -> Iterator[float]:
    """Growing and jittered, so that the workers of a host do not come back all at once."""
    delay = FIRST_DELAY
    while True:
        yield random.uniform(delay / 2, delay)
        delay = min(delay * 2, LONGEST_DELAY)
