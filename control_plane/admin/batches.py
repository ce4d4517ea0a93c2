"""A change that is more than one transaction of the store can hold, made so that nobody sees half of it.

The law: everything that will be written lies in the store before the first of it counts. From then on it is completed, by
whoever began or, when that one is gone, by any other control plane; until then no other write is made and workers serve what
they had (data_plane/config/whole.py). What its checks relied on is looked at again when nobody else can write any more.

    staged      the operations, in chunks, under /waspgate/batches/
    claimed     BATCH_KEY with a lease: others wait; nothing is written yet
    announced   BATCH_KEY without a lease: from here on it only goes forward
    made        chunk by chunk, each counted in BATCH_KEY in the transaction that makes it; the last one deletes BATCH_KEY
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import structlog

from control_plane.errors import AdminError
from shared.keys import BATCH_KEY, BATCH_PREFIX, CONFIG_PREFIX
from shared.schema.document import decode, encode
from shared.secrets.sealed_store import check_writable
from shared.store.contract import ConfigStore, Delete, Entry, Expect, Put, StoreError, TooLarge
from shared.store.request import MAX_OPERATIONS, check_transaction

# Of one chunk: two operations of each transaction are ours; values travel compressed while they are staged.
CHUNK_OPERATIONS = MAX_OPERATIONS - 2
CHUNK_BYTES = 1_000_000
# How long a claim may take to look at the store again.
CLAIM_SECONDS = 60
# A batch that has not moved for so long has lost its maker.
STALE_SECONDS = 10.0
# Staged operations that nothing announces are rubbish after this.
RUBBISH_SECONDS = 3600
LOOK_SECONDS = 0.05
# How long a write waits for somebody else's batch.
PATIENCE_SECONDS = 30.0

log = structlog.get_logger()

Op = Put | Delete


@dataclass(frozen=True, slots=True)
class Announcement:
    """The value of BATCH_KEY. `done` chunks of all are made."""

    id: str
    chunks: int
    announced: bool = False
    done: int = 0

    def put(self, lease: int = 0) -> Put:
        return Put(BATCH_KEY, encode(asdict(self)), lease)


def fits(expect: Sequence[Expect], operations: Sequence[Op]) -> bool:
    """One transaction is enough."""
    try:
        check_transaction(expect, operations)
    except TooLarge:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Batches:
    store: ConfigStore

    async def commit(self, expect: Sequence[Expect], operations: Sequence[Op]) -> int | None:
        """The revision at which all of it is seen; None when something that it relied on has changed. Raises TooLarge for a
        single value that the store does not take."""
        check_writable(self.store, operations)
        chunks = list(_chunks(operations))
        batch = Announcement(f"{int(time.time())}-{secrets.token_hex(8)}", len(chunks))
        try:
            await self._stage(batch, chunks)
            announced = await self._announce(batch, expect)
            if announced is None:
                return None
            return await self._make(*announced)
        finally:
            await self._unstage(batch)

    async def wait(self) -> None:
        """Until nobody's batch is under way. Raises AdminError when that takes too long."""
        seen, since, began = 0, 0.0, time.monotonic()
        while (entry := await self.store.get(BATCH_KEY)) is not None:
            now = time.monotonic()
            if entry.mod_revision != seen:
                seen, since = entry.mod_revision, now
            elif now - since > STALE_SECONDS:
                await self._take_over(entry)
            if now - began > PATIENCE_SECONDS:
                raise AdminError(503, {"error_msg": "a change of the whole configuration is being made, try again later"})
            await asyncio.sleep(LOOK_SECONDS)

    async def watch_over(self) -> None:
        """For ever: completes what a control plane that is gone has begun, and removes what one has left."""
        while True:
            try:
                await self.wait()
                await self._tidy()
            except (StoreError, AdminError) as error:
                log.warning("batches of the configuration were not looked after", error=str(error))
            except Exception:
                # The Admin API goes on, whatever this finds in the store.
                log.exception("batches of the configuration were not looked after")
            await asyncio.sleep(STALE_SECONDS)

    async def _stage(self, batch: Announcement, chunks: Sequence[Sequence[Op]]) -> None:
        for number, chunk in enumerate(chunks):
            await self.store.put(_chunk_key(batch, number), _packed(chunk))

    async def _announce(self, batch: Announcement, expect: Sequence[Expect]) -> tuple[Announcement, int] | None:
        """With the revision of BATCH_KEY."""
        lease = await self.store.grant_lease(CLAIM_SECONDS)
        claimed = await self.store.transaction((Expect(BATCH_KEY, 0),), (batch.put(lease),))
        if not claimed.committed:
            await self.store.revoke_lease(lease)
            return None
        # Others write nothing from here on.
        if await self._holds(expect):
            announced = replace(batch, announced=True)
            result = await self.store.transaction((Expect(BATCH_KEY, claimed.revision),), (announced.put(),))
            if result.committed:
                await self.store.revoke_lease(lease)
                return announced, result.revision
        await self.store.revoke_lease(lease)
        return None

    async def _holds(self, expect: Sequence[Expect]) -> bool:
        folders = {_folder(condition.key) for condition in expect if not condition.key.startswith(CONFIG_PREFIX)}
        revisions: dict[str, int] = {}
        for prefix in (CONFIG_PREFIX, *folders):
            revisions |= {entry.key: entry.mod_revision for entry in (await self.store.list(prefix)).entries}
        others = (condition for condition in expect if condition.key != BATCH_KEY)
        return all(revisions.get(condition.key, 0) == condition.mod_revision for condition in others)

    async def _make(self, batch: Announcement, revision: int) -> int:
        """From where it stands to its end; `revision` is that of BATCH_KEY."""
        while True:
            entry = await self.store.get(_chunk_key(batch, batch.done))
            if entry is None:
                # Another control plane took it over and has completed it.
                await self.wait()
                return await self.store.revision()
            made = replace(batch, done=batch.done + 1)
            last = made.done == made.chunks
            mark: Op = Delete(BATCH_KEY) if last else made.put()
            result = await self.store.transaction((Expect(BATCH_KEY, revision),), (*_unpacked(entry.value), mark))
            if not result.committed:
                await self.wait()
                return await self.store.revision()
            if last:
                return result.revision
            batch, revision = made, result.revision

    async def _take_over(self, entry: Entry) -> None:
        batch = Announcement(**decode(entry.value))
        if not batch.announced:
            # Its lease ends it.
            return
        result = await self.store.transaction((Expect(BATCH_KEY, entry.mod_revision),), (batch.put(),))
        if result.committed:
            log.warning("completing a change of the configuration whose control plane is gone", batch=batch.id)
            await self._make(batch, result.revision)
            await self._unstage(batch)

    async def _unstage(self, batch: Announcement) -> None:
        """What is still announced may be needed by whoever completes it."""
        entry = await self.store.get(BATCH_KEY)
        if entry is None or decode(entry.value)["id"] != batch.id:
            await self._remove(_chunk_key(batch, number) for number in range(batch.chunks))

    async def _tidy(self) -> None:
        oldest = time.time() - RUBBISH_SECONDS
        listing = await self.store.list(BATCH_PREFIX)
        await self._remove(
            entry.key for entry in listing.entries if int(entry.key.removeprefix(BATCH_PREFIX).partition("-")[0]) < oldest
        )

    async def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self.store.delete(key)


def _chunk_key(batch: Announcement, number: int) -> str:
    return f"{BATCH_PREFIX}{batch.id}/{number:06d}"


def _folder(key: str) -> str:
    """`/waspgate/guards/` of `/waspgate/guards/routes/1`."""
    return "/".join(key.split("/")[:3]) + "/"


def _chunks(operations: Iterable[Op]) -> Iterator[list[Op]]:
    chunk: list[Op] = []
    size = 0
    for operation in operations:
        length = len(operation.value) if isinstance(operation, Put) else 0
        if chunk and (len(chunk) == CHUNK_OPERATIONS or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(operation)
        size += length
    if chunk:
        yield chunk


def _packed(chunk: Sequence[Op]) -> bytes:
    """Text, so that a sealed store may cover it."""
    items = [[op.key, op.value.decode(), op.lease] if isinstance(op, Put) else [op.key] for op in chunk]
    return base64.b64encode(zlib.compress(encode(items)))


def _unpacked(value: bytes) -> Iterator[Op]:
    for item in decode(zlib.decompress(base64.b64decode(value))):
        yield Delete(item[0]) if len(item) == 1 else Put(item[0], item[1].encode(), item[2])
