"""Batches that several transactions made are seen at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

from data_plane.config import whole
from data_plane.config.whole import WholeSource
from shared.keys import BATCH_KEY
from shared.store.contract import Batch, Entry, Event, Listing


def event(revision: int, key: str, *, gone: bool = False) -> Event:
    return Event(key, revision, None if gone else Entry(key, b"{}", revision, revision))


class Store:
    """`listings` are answered in turn, `batches` watched."""

    def __init__(self, *batches: Batch, listings: list[Listing] | None = None) -> None:
        self.batches = batches
        self.listings = listings or []
        self.asked: list[str] = []

    async def list(self, prefix: str) -> Listing:
        self.asked.append(prefix)
        return self.listings.pop(0)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[Batch]:
        for batch in self.batches:
            yield batch


async def watched(*batches: Batch) -> list[tuple[int, list[str]]]:
    return [(batch.revision, [one.key for one in batch.events]) async for batch in WholeSource(Store(*batches)).watch("/", 1)]


async def test_a_batch_in_the_making_is_held() -> None:
    seen = await watched(
        Batch(1, (event(1, "/a"),)),
        Batch(2, (event(2, BATCH_KEY),)),
        Batch(4, (event(3, "/b"), event(3, BATCH_KEY), event(4, "/c"))),
        Batch(5, ()),
        Batch(6, (event(6, "/d"), event(6, BATCH_KEY, gone=True))),
        Batch(7, (event(7, "/e"),)),
    )

    assert seen == [(1, ["/a"]), (6, [BATCH_KEY, "/b", BATCH_KEY, "/c", "/d", BATCH_KEY]), (7, ["/e"])]


async def test_one_that_came_and_went_between_two_looks_holds_nothing() -> None:
    seen = await watched(Batch(3, (event(1, BATCH_KEY), event(2, "/a"), event(3, BATCH_KEY, gone=True))))

    assert [revision for revision, _ in seen] == [3]


async def test_nothing_is_seen_of_one_that_is_not_completed() -> None:
    assert await watched(Batch(1, (event(1, BATCH_KEY),)), Batch(2, (event(2, "/a"),))) == []


async def test_a_list_waits_for_it() -> None:
    whole.LOOK_SECONDS, before = 0.001, whole.LOOK_SECONDS
    mark = Entry(BATCH_KEY, b"{}", 1, 1)
    half, done = Listing(2, (mark, Entry("/a", b"{}", 2, 2))), Listing(4, (Entry("/a", b"{}", 2, 2),))
    store = Store(listings=[half, Listing(2, (mark,)), Listing(3, (mark,)), Listing(4, ()), done])

    try:
        assert await WholeSource(store).list("/") == done
    finally:
        whole.LOOK_SECONDS = before
    assert store.asked == ["/", BATCH_KEY, BATCH_KEY, BATCH_KEY, "/"]
