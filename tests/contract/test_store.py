"""What every engine of the configuration store promises, tried on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.store.contract import (
    Batch,
    Compacted,
    ConfigStore,
    Delete,
    Expect,
    LeaseNotFound,
    Put,
    StoreError,
    TooLarge,
)
from shared.store.request import MAX_OPERATIONS, MAX_REQUEST_BYTES
from tests.support.etcd import until
from tests.support.store import Backend, watching


async def test_a_key_is_read_back_with_its_revisions(store: ConfigStore, root: str) -> None:
    created = await store.put(root + "a", b"one")
    changed = await store.put(root + "a", b"two")
    entry = await store.get(root + "a")
    assert entry is not None
    assert (entry.value, entry.create_revision, entry.mod_revision, entry.version) == (b"two", created, changed, 2)
    assert changed == created + 1


async def test_a_missing_key_is_none(store: ConfigStore, root: str) -> None:
    assert await store.get(root + "missing") is None


async def test_delete_says_whether_the_key_existed(store: ConfigStore, root: str) -> None:
    await store.put(root + "a", b"")
    assert await store.delete(root + "a") is True
    revision = await store.revision()
    assert await store.delete(root + "a") is False
    assert await store.revision() == revision
    assert await store.get(root + "a") is None


async def test_a_key_that_comes_back_begins_again(store: ConfigStore, root: str) -> None:
    await store.put(root + "a", b"one")
    await store.delete(root + "a")
    created = await store.put(root + "a", b"two")
    entry = await store.get(root + "a")
    assert entry is not None
    assert (entry.create_revision, entry.version) == (created, 1)


async def test_an_empty_value_is_a_value(store: ConfigStore, root: str) -> None:
    await store.put(root + "a", b"")
    entry = await store.get(root + "a")
    assert entry is not None
    assert entry.value == b""


async def test_values_are_bytes_and_keys_are_any_text(store: ConfigStore, root: str) -> None:
    value = bytes(range(256))
    for name in ("ünï", "a b", "%2F", "\U0010ffff"):
        await store.put(root + name, value)
        entry = await store.get(root + name)
        assert entry is not None
        assert (entry.key, entry.value) == (root + name, value)


async def test_an_empty_key_is_refused(store: ConfigStore) -> None:
    with pytest.raises(ValueError, match="key must not be empty"):
        await store.put("", b"value")


async def test_a_list_holds_the_prefix_alone_in_key_order(store: ConfigStore, root: str) -> None:
    for name in ("b/2", "b/10", "b/1", "b0", "a", "b/\U0010ffff"):
        await store.put(root + name, name.encode())
    listing = await store.list(root + "b/")
    assert [entry.key for entry in listing.entries] == [root + name for name in ("b/1", "b/10", "b/2", "b/\U0010ffff")]
    assert listing.revision >= max(entry.mod_revision for entry in listing.entries)


async def test_an_empty_prefix_lists_everything(store: ConfigStore, root: str) -> None:
    await store.put(root + "a", b"")
    assert root + "a" in {entry.key for entry in (await store.list("")).entries}


async def test_an_empty_list_has_a_revision(store: ConfigStore, root: str) -> None:
    revision = await store.put("/elsewhere", b"")
    listing = await store.list(root)
    assert listing.entries == ()
    assert listing.revision >= revision


async def test_a_list_longer_than_a_page_is_whole_and_of_one_revision(store: ConfigStore, root: str) -> None:
    names = [f"{root}{number:04d}" for number in range(1100)]
    for first in range(0, len(names), 100):
        await store.transaction((), [Put(name, b"x") for name in names[first : first + 100]])

    async def rewrite() -> None:
        while True:
            await store.put(names[0], b"y")
            await store.put(names[-1], b"y")

    writer = asyncio.create_task(rewrite())
    listing = await store.list(root)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    assert [entry.key for entry in listing.entries] == names
    assert all(entry.mod_revision <= listing.revision for entry in listing.entries)


async def test_a_transaction_is_one_revision(store: ConfigStore, root: str) -> None:
    await store.put(root + "old", b"")
    before = await store.revision()
    result = await store.transaction((), (Put(root + "a", b"1"), Put(root + "b", b"2"), Delete(root + "old")))
    assert (result.committed, result.revision) == (True, before + 1)
    entries = (await store.list(root)).entries
    assert {(entry.key, entry.mod_revision) for entry in entries} == {(root + "a", before + 1), (root + "b", before + 1)}


async def test_a_failed_condition_writes_nothing(store: ConfigStore, root: str) -> None:
    revision = await store.put(root + "a", b"1")
    operations = (Put(root + "a", b"2"), Put(root + "b", b"2"))
    result = await store.transaction((Expect(root + "a", revision), Expect(root + "b", revision)), operations)
    assert (result.committed, result.revision) == (False, revision)
    assert await store.get(root + "b") is None


@pytest.mark.parametrize(("present", "expected", "committed"), [(False, 0, True), (True, 0, False), (False, 1, False)])
async def test_a_condition_on_existence(store: ConfigStore, root: str, present: bool, expected: int, committed: bool) -> None:
    if present:
        await store.put(root + "a", b"")
    result = await store.transaction((Expect(root + "a", expected),), (Put(root + "a", b"new"),))
    assert result.committed is committed


async def test_a_transaction_that_changes_nothing_is_no_revision(store: ConfigStore, root: str) -> None:
    before = await store.revision()
    result = await store.transaction((), (Delete(root + "missing"),))
    assert (result.committed, result.revision) == (True, before)


async def test_of_two_writers_that_compare_and_swap_none_overwrites_the_other(backend: Backend, root: str) -> None:
    """Two connections add 30 each to one counter; each addition is one committed swap."""

    async def add(store: ConfigStore) -> None:
        for _ in range(30):
            while True:
                entry = await store.get(root + "counter")
                value, revision = (int(entry.value), entry.mod_revision) if entry else (0, 0)
                put = Put(root + "counter", str(value + 1).encode())
                if (await store.transaction((Expect(root + "counter", revision),), (put,))).committed:
                    break

    async with backend.open() as one, backend.open() as two:
        await asyncio.gather(add(one), add(two))
        entry = await one.get(root + "counter")
    assert entry is not None
    assert (entry.value, entry.version) == (b"60", 60)


async def test_a_key_written_twice_in_one_transaction_is_refused(store: ConfigStore, root: str) -> None:
    with pytest.raises(ValueError, match="written twice"):
        await store.transaction((), (Put(root + "a", b""), Delete(root + "a")))


async def test_the_largest_request_passes_and_one_more_byte_does_not(store: ConfigStore, root: str) -> None:
    most = MAX_REQUEST_BYTES - 512 - 64 - len((root + "a").encode())
    await store.put(root + "a", b"x" * most)
    with pytest.raises(TooLarge, match="over the limit"):
        await store.put(root + "a", b"x" * (most + 1))
    await store.transaction((), [Put(f"{root}{number}", b"") for number in range(MAX_OPERATIONS)])
    with pytest.raises(TooLarge, match="up to 128"):
        await store.transaction((), [Put(f"{root}{number}", b"") for number in range(MAX_OPERATIONS + 1)])


async def test_a_watch_delivers_every_change_after_a_list(store: ConfigStore, root: str) -> None:
    await store.put(root + "before", b"")
    listing = await store.list(root)
    await store.put(root + "a", b"1")
    async with watching(store, root, listing.revision + 1) as watched:
        await store.put(root + "a", b"2")
        await store.delete(root + "a")
        await store.put(root + "b", b"3")
        await watched.has(4)
    assert watched.changes == [(root + "a", b"1"), (root + "a", b"2"), (root + "a", None), (root + "b", b"3")]
    assert [event.revision for event in watched.events] == list(range(listing.revision + 1, listing.revision + 5))


async def test_a_watched_entry_is_the_entry_that_get_shows(store: ConfigStore, root: str) -> None:
    await store.put(root + "a", b"1")
    revision = await store.put(root + "a", b"2")
    async with watching(store, root, revision) as watched:
        await watched.has(1)
    assert watched.events[0].entry == await store.get(root + "a")


async def test_a_watch_sees_its_prefix_alone(store: ConfigStore, root: str) -> None:
    start = await store.revision() + 1
    async with watching(store, root + "in/", start) as watched:
        await store.put(root + "in", b"")
        await store.put(root + "in0", b"")
        await store.put(root + "in/a", b"1")
        await watched.has(1)
    assert watched.changes == [(root + "in/a", b"1")]


async def test_a_transaction_arrives_in_one_batch(store: ConfigStore, root: str) -> None:
    start = await store.revision() + 1
    async with watching(store, root, start) as watched:
        result = await store.transaction((), [Put(f"{root}{number:03d}", b"x" * 10_000) for number in range(100)])
        await watched.has(100)
    batch = next(batch for batch in watched.batches if batch.events)
    assert (len(batch.events), batch.revision) == (100, result.revision)


async def test_a_watch_resumes_where_another_stopped(backend: Backend, root: str) -> None:
    """Readers that each take a few batches and leave see together what one reader sees."""
    async with backend.open() as store:
        start = await store.revision() + 1
        for number in range(20):
            await store.transaction((), (Put(root + "a", b"%d" % number), Put(root + "b", b"%d" % number)))
        seen: list[bytes | None] = []
        while len(seen) < 40:
            async with backend.open() as reader, watching(reader, root, start) as watched:
                await watched.has(1)
                seen += [value for _, value in watched.changes]
                start = watched.revision + 1
    assert seen == [b"%d" % number for number in range(20) for _ in range(2)]


async def test_a_watch_far_behind_gets_all_of_a_long_history(store: ConfigStore, root: str) -> None:
    """More revisions than either engine reads in one step."""
    start = await store.revision() + 1
    for number in range(2500):
        await store.put(root + "a", b"%d" % number)
    async with watching(store, root, start) as watched:
        await watched.has(2500, seconds=10)
    assert [value for _, value in watched.changes] == [b"%d" % number for number in range(2500)]


async def test_two_watches_see_the_same(backend: Backend, root: str) -> None:
    async with backend.open() as one, backend.open() as two:
        start = await one.revision() + 1
        async with (
            watching(one, root, start) as first,
            watching(one, root, start) as second,
            watching(two, root, start) as third,
        ):
            for number in range(10):
                await (one, two)[number % 2].put(root + "a", b"%d" % number)
            for watched in (first, second, third):
                await watched.has(10)
    assert first.changes == second.changes == third.changes


async def test_a_write_of_another_store_is_seen_within_50_ms(backend: Backend, root: str) -> None:
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    async with (
        backend.open() as writer,
        backend.open() as reader,
        watching(reader, root, await writer.revision() + 1) as watched,
    ):
        for number in range(1, 21):
            await writer.put(root + "a", b"%d" % number)
            written = loop.time()
            await watched.has(number)
            delays.append(loop.time() - written)
    # The median, so that one hiccup of a busy machine is not read as a slow store.
    assert sorted(delays)[10] < 0.05


async def test_history_that_is_compacted_is_told(backend: Backend, store: ConfigStore, root: str) -> None:
    first = await store.put(root + "a", b"1")
    await store.put(root + "a", b"2")
    third = await store.put(root + "a", b"3")
    await backend.compact(store, third)
    async with watching(store, root, first) as watched:
        assert (await watched.is_compacted()).compact_revision == third
    # After a list the reader goes on.
    listing = await store.list(root)
    assert [entry.value for entry in listing.entries] == [b"3"]
    async with watching(store, root, listing.revision + 1) as watched:
        await store.put(root + "a", b"4")
        await watched.has(1)


async def test_compaction_never_hides_a_deletion(backend: Backend, store: ConfigStore, root: str) -> None:
    """Compacted at exactly the deletion's revision: the watch tells either the deletion or Compacted, never neither."""
    await store.put(root + "a", b"1")
    deleted = await store.put(root + "b", b"") + 1
    await store.delete(root + "a")
    await store.put(root + "b", b"2")
    await backend.compact(store, deleted)
    async with watching(store, root, deleted) as watched:
        try:
            await watched.has(2)
        except Compacted:
            return
    assert watched.changes == [(root + "a", None), (root + "b", b"2")]


async def test_a_live_watch_outlasts_compaction(backend: Backend, store: ConfigStore, root: str) -> None:
    start = await store.revision() + 1
    async with watching(store, root, start) as watched:
        await store.put(root + "a", b"1")
        await watched.has(1)
        await store.put("/elsewhere", b"")
        await backend.compact(store, await store.put("/elsewhere", b""))
        await store.put(root + "a", b"2")
        await watched.has(2)


async def test_a_watch_ahead_of_the_store_is_told(store: ConfigStore, root: str) -> None:
    """A reader can be ahead only of a store that was wiped or replaced."""
    async with watching(store, root, await store.revision() + 100) as watched:
        await watched.is_compacted()


async def test_a_lease_that_ends_deletes_its_keys(backend: Backend, root: str) -> None:
    """Two stores are open, so that two processes' worth of housekeeping race for it; the deletion is one event."""
    async with backend.open() as store, backend.open() as other:
        lease = await store.grant_lease(1)
        await store.transaction((), (Put(root + "a", b"", lease), Put(root + "b", b"", lease), Put(root + "c", b"")))
        entry = await store.get(root + "a")
        assert entry is not None
        assert entry.lease == lease
        async with watching(other, root, await store.revision() + 1) as watched:
            await watched.has(2, seconds=10)
            await store.put(root + "end", b"")
            await watched.has(3)
    assert watched.changes == [(root + "a", None), (root + "b", None), (root + "end", b"")]


async def test_a_lease_that_is_renewed_lasts(store: ConfigStore, root: str) -> None:
    kept, left = await store.grant_lease(2), await store.grant_lease(2)
    await store.put(root + "kept", b"", lease=kept)
    await store.put(root + "left", b"", lease=left)
    async with asyncio.timeout(10):
        while await store.get(root + "left") is not None:
            assert await store.keep_alive(kept) is True
            await asyncio.sleep(0.1)
    assert await store.get(root + "kept") is not None
    assert await store.keep_alive(left) is False


async def test_a_revoked_lease_takes_its_keys_in_one_revision(store: ConfigStore, root: str) -> None:
    lease = await store.grant_lease(60)
    await store.transaction((), (Put(root + "a", b"", lease), Put(root + "b", b"", lease)))
    before = await store.revision()
    await store.revoke_lease(lease)
    assert (await store.list(root)).entries == ()
    assert await store.revision() == before + 1
    assert await store.keep_alive(lease) is False
    await store.revoke_lease(lease)


async def test_a_key_written_without_its_lease_outlives_it(store: ConfigStore, root: str) -> None:
    lease = await store.grant_lease(60)
    await store.put(root + "a", b"1", lease=lease)
    await store.put(root + "a", b"2")
    await store.revoke_lease(lease)
    entry = await store.get(root + "a")
    assert entry is not None
    assert (entry.value, entry.lease) == (b"2", 0)


async def test_a_write_under_a_lease_that_is_gone_is_refused(store: ConfigStore, root: str) -> None:
    lease = await store.grant_lease(60)
    await store.revoke_lease(lease)
    with pytest.raises(LeaseNotFound):
        await store.put(root + "a", b"", lease=lease)
    assert await store.get(root + "a") is None


async def test_a_closed_store_says_so(backend: Backend, root: str) -> None:
    async with backend.open() as store:
        await store.put(root + "a", b"")
    with pytest.raises(StoreError, match="not open"):
        await store.get(root + "a")


async def test_closing_ends_a_watch(backend: Backend, root: str) -> None:
    store = backend.open()
    await store.__aenter__()
    async with watching(store, root, await store.revision() + 1) as watched:
        await store.put(root + "a", b"")
        await watched.has(1)
        await store.__aexit__()
        with pytest.raises(StoreError, match="not open"):
            await watched.has(2)


async def test_what_is_kept_survives_a_reopening(backend: Backend, root: str) -> None:
    async with backend.open() as store:
        revision = await store.put(root + "a", b"1")
    async with backend.open() as store:
        entry = await store.get(root + "a")
        assert entry is not None
        assert entry.mod_revision == revision
        assert await store.put(root + "a", b"2") == revision + 1


async def test_a_cancelled_call_leaves_the_store_usable(store: ConfigStore, root: str) -> None:
    for _ in range(20):
        task = asyncio.create_task(store.put(root + "a", b"x"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.put(root + "a", b"last")
    entry = await store.get(root + "a")
    assert entry is not None
    assert entry.value == b"last"


async def test_a_reader_that_leaves_early_leaves_nothing_behind(store: ConfigStore, root: str) -> None:
    revision = await store.put(root + "a", b"")
    before = asyncio.all_tasks()

    async def first(batches: AsyncIterator[Batch]) -> Batch:
        async for batch in batches:
            return batch
        raise AssertionError("a watch has no end")

    for _ in range(3):
        assert (await first(store.watch(root, revision))).revision >= revision
    await until(lambda: not asyncio.all_tasks() - before)
