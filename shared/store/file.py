"""The engine without a server: a configuration file of this host, read again whenever it changes.

The law: it has what the last good file had. A file that cannot be read, or is not whole yet, changes nothing but what is
logged; each good one is a revision, in which what did not change keeps its own. It is read in a thread, and takes no
writes: who wants a change writes the file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from shared.keys import chunk_key, module_key
from shared.store.blobs import CHUNK_BYTES, Meta
from shared.store.contract import (
    Batch,
    Compacted,
    Delete,
    Entry,
    Event,
    Expect,
    Listing,
    Put,
    StoreError,
    StoreUnavailable,
    TxnResult,
)
from shared.store.gateway_file import Contents, GatewayFileError, ModuleFileError, is_complete, read_gateway

LOOK_SECONDS: Final = 0.5
# A file that changes while it is read is tried again after this.
SETTLE_SECONDS: Final = 0.05

_log = logging.getLogger("waspgate.store")

# Of each file that counts: when it was written, how long it is, which it is.
_Marks = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    contents: Contents
    ends_with_mark: bool


class FileStore:
    """`ConfigStore` over one file, for readers. Use it as a context manager, on one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._modules: dict[str, Path] = {}
        self._batches: list[Batch] = []
        self._revision = 0
        self._marks: _Marks = ()
        self._has_mark = False
        self._problem = ""
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def path(self) -> Path:
        return self._path

    def __repr__(self) -> str:
        return f"<FileStore {self._path}>"

    async def __aenter__(self) -> Self:
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking(), name="configuration file")
        return self

    async def __aexit__(self, *exc: object) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def revision(self) -> int:
        return self._revision

    async def get(self, key: str) -> Entry | None:
        try:
            return self._entries.get(key) or await asyncio.to_thread(self._of_module, key)
        except OSError as error:
            raise StoreUnavailable(f"{error.filename}: {error.strerror}") from error

    async def list(self, prefix: str) -> Listing:
        if not self._revision:
            raise StoreUnavailable(self._problem or f"{self._path} has not been read")
        found = (entry for key, entry in sorted(self._entries.items()) if key.startswith(prefix))
        return Listing(self._revision, tuple(found))

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        while True:
            self._changed.clear()
            # Of the past only the last change is kept: who missed more lists again.
            if from_revision < self._revision:
                raise Compacted(self._revision)
            if from_revision == self._revision:
                batch = self._batches[-1]
                from_revision += 1
                yield Batch(batch.revision, tuple(event for event in batch.events if event.key.startswith(prefix)))
                continue
            await self._changed.wait()

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        self._refuse()

    async def delete(self, key: str) -> bool:
        self._refuse()

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        self._refuse()

    async def grant_lease(self, ttl_seconds: int) -> int:
        self._refuse()

    async def keep_alive(self, lease: int) -> bool:
        self._refuse()

    async def revoke_lease(self, lease: int) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(f"{self._path} is a file, which takes no writes from here")

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        marks = await asyncio.to_thread(self._stat)
        if marks == self._marks:
            return
        try:
            read = await asyncio.to_thread(_read, self._path)
        except GatewayFileError as error:
            # What is wrong with another file may be mended there.
            self._marks = () if isinstance(error, ModuleFileError) else marks
            self._note(f"{self._path}: {error}")
            return
        if await asyncio.to_thread(self._stat) != marks or (self._has_mark and not read.ends_with_mark):
            # Somebody is writing it.
            await asyncio.sleep(SETTLE_SECONDS)
            return
        self._note("")
        self._has_mark = read.ends_with_mark
        # Module files that were not looked at before: once more, to know that they were whole.
        looked_at_all = set(read.contents.modules.values()) <= set(self._modules.values())
        self._take(read.contents)
        self._marks = marks if looked_at_all else ()

    def _take(self, contents: Contents) -> None:
        before, revision = self._entries, self._revision + 1
        entries = {key: _entry(key, value, before.get(key), revision) for key, value in contents.values.items()}
        events = [Event(key, revision, None) for key in before.keys() - entries.keys()]
        events += [Event(key, revision, entry) for key, entry in entries.items() if entry is not before.get(key)]
        self._modules = dict(contents.modules)
        if events or not self._revision:
            self._entries, self._revision = entries, revision
            self._batches = [Batch(revision, tuple(events))]
            self._changed.set()

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.error("%s; %s", problem, "the last good configuration stays" if self._revision else "there is none yet")
        elif self._problem and not problem:
            _log.info("%s is good again", self._path)
        self._problem = problem

    # In a thread.

    def _stat(self) -> _Marks:
        return tuple(_mark(path) for path in (self._path, *sorted(set(self._modules.values()))))

    def _of_module(self, key: str) -> Entry | None:
        """A module as it would lie in a store (blobs.py)."""
        for sha256, path in self._modules.items():
            if key == module_key(sha256):
                size = path.stat().st_size
                return Entry(key, Meta(size, -(-size // CHUNK_BYTES), 0.0).encode(), 1, 1)
            if key.startswith(chunk_key(sha256, 0)[:-4]):
                with path.open("rb") as file:
                    file.seek(int(key[-4:]) * CHUNK_BYTES)
                    return Entry(key, file.read(CHUNK_BYTES), 1, 1)
        return None


def check_file(path: Path) -> None:
    """Raises GatewayFileError when the file cannot be a configuration."""
    try:
        _read(path)
    except GatewayFileError as error:
        raise GatewayFileError(f"{path}: {error}") from error


def _read(path: Path) -> _Read:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise GatewayFileError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GatewayFileError(f"is not UTF-8: {error.reason} at byte {error.start}") from error
    as_json = path.suffix == ".json"
    return _Read(read_gateway(text, path.parent, as_json=as_json), is_complete(text))


def _entry(key: str, value: bytes, before: Entry | None, revision: int) -> Entry:
    if before is None:
        return Entry(key, value, revision, revision)
    if before.value == value:
        return before
    return Entry(key, value, before.create_revision, revision, before.version + 1)


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
