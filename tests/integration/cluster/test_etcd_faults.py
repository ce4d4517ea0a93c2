"""What happens to an etcd cluster, as a data plane and its clients notice it: not at all, but for when a change comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shared.data_planes import decode
from shared.keys import DATA_PLANE_PREFIX
from shared.store.url import open_store
from tests.support.cluster import Site, site


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nobody_noticed(here: Site) -> Iterator[None]:
    yield
    assert here.client.failed == []


async def test_members_that_crash_and_come_back_one_after_the_other(here: Site) -> None:
    leader = await here.leader()
    follower = next(member for member in here.members if member is not leader)
    for number, member in enumerate((follower, leader)):
        member.kill()
        await here.write(f"/without-{number}")
        await here.serves(f"/without-{number}")
        await member.start()
    await here.write("/with-all")
    await here.serves("/with-all")


async def test_another_leader(here: Site) -> None:
    leader = await here.leader()
    others = [member for member in here.members if member is not leader]
    found = await others[0].control("endpoint", "status", "-w", "json")
    target = found.split('"member_id":')[1].split(",")[0]
    writing = asyncio.create_task(here.write(*(f"/elected-{number}" for number in range(20))))
    await leader.control("move-leader", f"{int(target):x}")
    await writing
    assert await here.leader() is not leader
    await here.serves(*(f"/elected-{number}" for number in range(20)))


async def test_a_leader_that_hangs(here: Site) -> None:
    leader = await here.leader()
    leader.freeze()
    try:
        await here.write("/while-frozen")
        await here.serves("/while-frozen")
    finally:
        leader.thaw()
    await here.write("/after-the-thaw")
    await here.serves("/after-the-thaw")


async def test_a_path_that_falls_silent(here: Site) -> None:
    """The connections stay open, and nothing comes over the most of them."""
    for one in here.paths.relays[:2]:
        one.mute = True
    try:
        await here.write("/over-the-third")
        await here.serves("/over-the-third")
    finally:
        here.paths.mend()


async def test_a_history_that_is_compacted_while_nobody_listens(here: Site) -> None:
    await here.write("/going")
    await here.serves("/going")
    here.paths.cut()
    try:
        await here.write(*(f"/unheard-{number}" for number in range(10)))
        await here.delete("/going")
        async with open_store(here.url) as store:
            revision = await store.revision()
        await here.members[0].control("compact", str(revision))
        assert here.ask("/going") == 200
        assert here.ask("/unheard-0") == 404
    finally:
        here.paths.mend()
    await here.serves(*(f"/unheard-{number}" for number in range(10)))
    await here.serves("/going", status=404)
    assert here.plane.events("config history is gone, listing again")


async def test_after_all_of_it_the_worker_is_in_the_registry_with_all_of_it(here: Site) -> None:
    async with open_store(here.url) as store:
        await here.write("/last")
        await here.serves("/last")
        listing = await store.list("/apisix/routes/")
        newest = max(entry.mod_revision for entry in listing.entries)
        async with asyncio.timeout(10):
            while True:
                workers = [decode(entry.value) for entry in (await store.list(DATA_PLANE_PREFIX)).entries]
                if [worker.revision >= newest for worker in workers if worker] == [True]:
                    break
                await asyncio.sleep(0.05)
    # Nothing was skipped on the way.
    paths = [entry.key.rpartition("/")[2] for entry in listing.entries]
    assert len(paths) > 30
    await here.serves(*(f"/{path}" for path in paths))
