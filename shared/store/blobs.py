"""Wasm modules in the store: content-addressed, in chunks that fit one request, collected when nobody needs them.

The law: a module exists exactly when its meta key does, and that key is written last, in the same transaction that removes
the upload's mark. Whoever finds the mark of an upload in progress shares it; whoever removes a module or an abandoned
upload names the mod_revision that it judged by, so that a racing upload or hold wins.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from typing import Final

from shared.keys import MODULE_PREFIX, UPLOAD_PREFIX, chunk_key, module_key, upload_key
from shared.store.contract import ConfigStore, Delete, Entry, Expect, Put, StoreError, TooLarge

MAX_MODULE_BYTES: Final = 32 * 1024 * 1024
# Two thirds of what etcd takes in a request, so that 32 MiB are 32 chunks and one transaction can delete them all.
CHUNK_BYTES: Final = 1024 * 1024
# How long a module or an upload is left alone without being referenced: longer than any upload, and than clocks differ.
GRACE_SECONDS: Final = 3600.0
# How often an upload begins again because another writer was in its way.
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Meta:
    """The value of a module's key, and of an upload's mark. `held_at` is when somebody last wanted it (Unix time)."""

    size: int
    chunks: int
    held_at: float

    @classmethod
    def of(cls, entry: Entry) -> Meta:
        try:
            fields = json.loads(entry.value)
            return cls(int(fields["size"]), int(fields["chunks"]), float(fields["held_at"]))
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"the value of {entry.key} is not what Waspgate writes there: {error}") from error

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


async def put_module(store: ConfigStore, data: bytes, *, now: Callable[[], float] = time.time) -> str:
    """Store a module, held for the grace time; answers its sha256. What is there already is kept, or mended if damaged."""
    if not data:
        raise ValueError("a module must not be empty")
    if len(data) > MAX_MODULE_BYTES:
        raise TooLarge(f"a module of {len(data)} bytes is over the limit of {MAX_MODULE_BYTES} bytes")
    sha256 = await asyncio.to_thread(_digest, data)
    for _ in range(ATTEMPTS):
        meta = Meta(len(data), -(-len(data) // CHUNK_BYTES), now())
        if await _is_whole(store, sha256) and await hold_module(store, sha256, now=now):
            return sha256
        if await _upload(store, sha256, data, meta):
            return sha256
    raise StoreError(f"the module {sha256} could not be stored: other writers came between {ATTEMPTS} times")


async def get_module(store: ConfigStore, sha256: str) -> bytes | None:
    """The module's bytes; None when there is no such module. Raises StoreError when what is stored is damaged."""
    entry = await store.get(module_key(sha256))
    if entry is None:
        return None
    chunks = [await store.get(chunk_key(sha256, index)) for index in range(Meta.of(entry).chunks)]
    data = b"".join(chunk.value for chunk in chunks if chunk is not None)
    if await asyncio.to_thread(_digest, data) == sha256:
        return data
    if await store.get(module_key(sha256)) is None:
        # Collected while it was being read.
        return None
    raise StoreError(f"the module {sha256} is damaged in the store: upload it again")


async def hold_module(store: ConfigStore, sha256: str, *, now: Callable[[], float] = time.time) -> bool:
    """Keep a module from being collected for the grace time, so that it can be referenced; False when there is none."""
    for _ in range(ATTEMPTS):
        entry = await store.get(module_key(sha256))
        if entry is None:
            return False
        meta = Meta.of(entry)
        held = Put(entry.key, Meta(meta.size, meta.chunks, now()).encode())
        if (await store.transaction((Expect(entry.key, entry.mod_revision),), (held,))).committed:
            return True
    raise StoreError(f"the module {sha256} could not be held: other writers came between {ATTEMPTS} times")


async def collect_modules(
    store: ConfigStore,
    referenced: Set[str],
    *,
    grace_seconds: float = GRACE_SECONDS,
    now: Callable[[], float] = time.time,
) -> list[str]:
    """Remove modules that are not in `referenced` (read it before the call) and not held, and abandoned uploads."""
    oldest = now() - grace_seconds
    removed: list[str] = []
    modules = (await store.list(MODULE_PREFIX)).entries
    complete = {entry.key.removeprefix(MODULE_PREFIX) for entry in modules}
    for entry in modules:
        sha256, meta = entry.key.removeprefix(MODULE_PREFIX), Meta.of(entry)
        if sha256 in referenced or meta.held_at >= oldest:
            continue
        # Not while an upload mends it: its chunks would be gone when it finishes.
        if await _remove(store, entry, sha256, meta.chunks, Expect(upload_key(sha256), 0)):
            removed.append(sha256)
    for entry in (await store.list(UPLOAD_PREFIX)).entries:
        sha256, meta = entry.key.removeprefix(UPLOAD_PREFIX), Meta.of(entry)
        if meta.held_at < oldest:
            # The chunks of a complete module are its own, whatever mark was left beside it.
            await _remove(store, entry, sha256, 0 if sha256 in complete else meta.chunks)
    return removed


async def _upload(store: ConfigStore, sha256: str, data: bytes, meta: Meta) -> bool:
    """False when the mark was taken away meanwhile: by another upload of the same bytes, or by a collection."""
    mark = await _mark(store, sha256, meta)
    for index in range(meta.chunks):
        await store.put(chunk_key(sha256, index), data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])
    finish = (Put(module_key(sha256), meta.encode()), Delete(upload_key(sha256)))
    return (await store.transaction((Expect(upload_key(sha256), mark),), finish)).committed


async def _mark(store: ConfigStore, sha256: str, meta: Meta) -> int:
    """The mod_revision of the upload's mark: made now, or found and shared while it is young."""
    key = upload_key(sha256)
    while True:
        entry = await store.get(key)
        if entry is not None and Meta.of(entry).held_at > meta.held_at - GRACE_SECONDS / 2:
            return entry.mod_revision
        expect = Expect(key, entry.mod_revision if entry else 0)
        result = await store.transaction((expect,), (Put(key, meta.encode()),))
        if result.committed:
            return result.revision


async def _remove(store: ConfigStore, entry: Entry, sha256: str, chunks: int, *expect: Expect) -> bool:
    doomed = (Delete(chunk_key(sha256, index)) for index in range(chunks))
    unchanged = Expect(entry.key, entry.mod_revision)
    return (await store.transaction((unchanged, *expect), (Delete(entry.key), *doomed))).committed


async def _is_whole(store: ConfigStore, sha256: str) -> bool:
    try:
        return await get_module(store, sha256) is not None
    except StoreError:
        return False


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
