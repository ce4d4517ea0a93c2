"""Wasm modules in the store: whole or absent, shared, mended, and collected only when nobody can want them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence

import pytest

from shared.keys import CHUNK_PREFIX, CONFIG_PREFIX, MODULE_PREFIX, UPLOAD_PREFIX, chunk_key, module_key, upload_key
from shared.store.blobs import CHUNK_BYTES, MAX_MODULE_BYTES, collect_modules, get_module, hold_module, put_module
from shared.store.contract import ConfigStore, Delete, Expect, Put, StoreError, TooLarge, TxnResult
from tests.support.store import Backend, watching

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
async def _only_this_tests_modules(store: ConfigStore) -> None:
    for prefix in (MODULE_PREFIX, UPLOAD_PREFIX, CHUNK_PREFIX):
        for entry in (await store.list(prefix)).entries:
            await store.delete(entry.key)


async def keys(store: ConfigStore) -> list[str]:
    prefixes = (MODULE_PREFIX, UPLOAD_PREFIX, CHUNK_PREFIX)
    return [entry.key for prefix in prefixes for entry in (await store.list(prefix)).entries]


class Interrupted(Exception):
    """What a test raises in the middle of an upload."""


class Interposed:
    """A store that calls back before one of its writes, so that a test can act just there."""

    def __init__(self, store: ConfigStore, key: str, act: Callable[[], Awaitable[None]]) -> None:
        self._store, self._key = store, key
        self._act: Callable[[], Awaitable[None]] | None = act
        self.get, self.list, self.put = store.get, store.list, self._put

    async def _before(self, written: Sequence[str]) -> None:
        if self._key in written and self._act is not None:
            act, self._act = self._act, None
            await act()

    async def _put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        await self._before([key])
        return await self._store.put(key, value, lease=lease)

    async def transaction(self, expect: Sequence[Expect], operations: Sequence[Put | Delete]) -> TxnResult:
        await self._before([operation.key for operation in operations])
        return await self._store.transaction(expect, operations)


def interposed(store: ConfigStore, key: str, act: Callable[[], Awaitable[None]]) -> ConfigStore:
    return Interposed(store, key, act)  # type: ignore[return-value]  # the part of a store that modules use


async def interrupt() -> None:
    raise Interrupted


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
async def test_a_module_comes_back_as_it_was(store: ConfigStore, size: int) -> None:
    data = os.urandom(size)
    sha256 = await put_module(store, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert await get_module(store, sha256) == data
    assert len(await keys(store)) == 1 + -(-size // CHUNK_BYTES)


async def test_a_module_of_the_largest_size_passes_and_is_collected(store: ConfigStore) -> None:
    data = os.urandom(1024) * (MAX_MODULE_BYTES // 1024)
    sha256 = await put_module(store, data, now=lambda: NOW)
    assert await get_module(store, sha256) == data
    assert await collect_modules(store, set(), now=lambda: NOW + 7200) == [sha256]
    assert await keys(store) == []


async def test_a_module_over_the_limit_or_empty_is_refused(store: ConfigStore) -> None:
    with pytest.raises(TooLarge, match=f"{MAX_MODULE_BYTES + 1} bytes is over the limit of {MAX_MODULE_BYTES}"):
        await put_module(store, bytes(MAX_MODULE_BYTES + 1))
    with pytest.raises(ValueError, match="must not be empty"):
        await put_module(store, b"")
    assert await keys(store) == []


async def test_a_missing_module_is_none(store: ConfigStore) -> None:
    assert await get_module(store, "0" * 64) is None
    assert await hold_module(store, "0" * 64) is False


async def test_a_module_stored_twice_is_kept_once(backend: Backend, store: ConfigStore) -> None:
    data = os.urandom(CHUNK_BYTES * 2)
    first = await put_module(store, data)
    written = await store.get(chunk_key(first, 0))
    async with backend.open() as another:
        assert await put_module(another, data) == first
    assert await store.get(chunk_key(first, 0)) == written


async def test_modules_never_show_in_the_configuration(store: ConfigStore) -> None:
    listing = await store.list(CONFIG_PREFIX)
    async with watching(store, CONFIG_PREFIX, listing.revision + 1) as watched:
        await put_module(store, os.urandom(CHUNK_BYTES))
        await store.put(CONFIG_PREFIX + "routes/1", b"")
        await watched.has(1)
    assert watched.changes == [(CONFIG_PREFIX + "routes/1", b"")]
    await store.delete(CONFIG_PREFIX + "routes/1")


async def test_half_an_upload_is_not_a_module_and_is_finished_by_the_next(store: ConfigStore) -> None:
    data = os.urandom(CHUNK_BYTES * 3)
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(Interrupted):
        await put_module(interposed(store, chunk_key(sha256, 2), interrupt), data)
    assert await get_module(store, sha256) is None
    assert await put_module(store, data) == sha256
    assert await get_module(store, sha256) == data
    assert await store.get(upload_key(sha256)) is None


async def test_an_abandoned_upload_is_collected_after_its_grace(store: ConfigStore) -> None:
    data = os.urandom(CHUNK_BYTES * 3)
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(Interrupted):
        await put_module(interposed(store, chunk_key(sha256, 2), interrupt), data, now=lambda: NOW)
    left = await keys(store)
    assert await collect_modules(store, set(), now=lambda: NOW + 60) == []
    assert await keys(store) == left
    await collect_modules(store, set(), now=lambda: NOW + 7200)
    assert await keys(store) == []


async def test_two_uploads_of_one_module_at_once_both_succeed(backend: Backend, store: ConfigStore) -> None:
    data = os.urandom(CHUNK_BYTES * 4)
    async with backend.open() as another:
        first, second = await asyncio.gather(put_module(store, data), put_module(another, data))
    assert first == second
    assert await get_module(store, first) == data
    assert await store.get(upload_key(first)) is None


async def test_an_upload_that_a_collection_swept_away_begins_again(store: ConfigStore) -> None:
    """Only a clock far ahead can make a collector think so; still nothing half is left."""
    data = os.urandom(CHUNK_BYTES * 2)
    sha256 = hashlib.sha256(data).hexdigest()

    async def collect() -> None:
        await collect_modules(store, set(), now=lambda: NOW + 1_000_000)

    await put_module(interposed(store, chunk_key(sha256, 1), collect), data, now=lambda: NOW)
    assert await get_module(store, sha256) == data


async def test_referenced_and_young_modules_stay(store: ConfigStore) -> None:
    referenced = await put_module(store, b"referenced", now=lambda: NOW - 90_000)
    old = await put_module(store, b"old", now=lambda: NOW - 90_000)
    young = await put_module(store, b"young", now=lambda: NOW - 60)
    assert await collect_modules(store, {referenced}, now=lambda: NOW) == [old]
    assert await get_module(store, old) is None
    assert await get_module(store, referenced) == b"referenced"
    assert await get_module(store, young) == b"young"


@pytest.mark.parametrize("upload", [True, False])
async def test_uploading_or_holding_again_begins_the_grace_anew(store: ConfigStore, upload: bool) -> None:
    sha256 = await put_module(store, b"module", now=lambda: NOW - 90_000)
    if upload:
        await put_module(store, b"module", now=lambda: NOW)
    else:
        assert await hold_module(store, sha256, now=lambda: NOW) is True
    assert await collect_modules(store, set(), now=lambda: NOW) == []
    assert await collect_modules(store, set(), now=lambda: NOW + 7200) == [sha256]


async def test_a_hold_between_judgement_and_removal_wins(store: ConfigStore) -> None:
    sha256 = await put_module(store, b"module", now=lambda: NOW - 90_000)

    async def hold() -> None:
        assert await hold_module(store, sha256, now=lambda: NOW) is True

    assert await collect_modules(interposed(store, module_key(sha256), hold), set(), now=lambda: NOW) == []
    assert await get_module(store, sha256) == b"module"


@pytest.mark.parametrize("value", [None, b"something else"])
async def test_a_damaged_module_is_said_and_mended_by_an_upload(store: ConfigStore, value: bytes | None) -> None:
    data = os.urandom(CHUNK_BYTES * 2)
    sha256 = await put_module(store, data)
    if value is None:
        await store.delete(chunk_key(sha256, 1))
    else:
        await store.put(chunk_key(sha256, 1), value)
    with pytest.raises(StoreError, match=f"{sha256} is damaged"):
        await get_module(store, sha256)
    assert await put_module(store, data) == sha256
    assert await get_module(store, sha256) == data


async def test_a_collection_during_a_mending_upload_leaves_the_module_whole(store: ConfigStore) -> None:
    data = os.urandom(CHUNK_BYTES * 2)
    sha256 = await put_module(store, data, now=lambda: NOW - 90_000)
    await store.delete(chunk_key(sha256, 1))

    async def collect() -> None:
        await collect_modules(store, set(), now=lambda: NOW)

    await put_module(interposed(store, chunk_key(sha256, 1), collect), data, now=lambda: NOW)
    assert await get_module(store, sha256) == data


@pytest.mark.parametrize("value", [b"", b"[]", b'{"size": "x"}', b"\xff"])
async def test_a_meta_that_others_wrote_is_named(store: ConfigStore, value: bytes) -> None:
    await store.put(module_key("0" * 64), value)
    with pytest.raises(StoreError, match=f"the value of {module_key('0' * 64)} is not what"):
        await get_module(store, "0" * 64)
