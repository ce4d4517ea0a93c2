"""What etcd's faults look like through the store: killed, frozen, wiped, compacted, partly dead, guarded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.keys import STORE_IDENTITY
from shared.store.contract import ConfigStore, LeaseNotFound, Put, StoreUnavailable, TooLarge
from shared.store.url import open_store
from tests.support.certificates import make_certificates
from tests.support.etcd import Etcd, free_port, running_cluster, running_etcd, until
from tests.support.relay import relay
from tests.support.store import watching

ROOT = "/apisix/routes/"


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[Etcd]:
    """A server of this test's own, to be maltreated."""
    async with running_etcd(tmp_path / "etcd") as server:
        yield server


@pytest.fixture
async def store(etcd: Etcd) -> AsyncIterator[ConfigStore]:
    async with open_store(etcd.url) as opened:
        yield opened


async def test_a_killed_server_is_unavailable_at_once_and_loses_nothing(etcd: Etcd, store: ConfigStore) -> None:
    listing = await store.list(ROOT)
    async with watching(store, ROOT, listing.revision + 1) as watched:
        await store.put(ROOT + "1", b"before")
        await watched.has(1)
        etcd.kill()
        async with asyncio.timeout(1):
            for call in (store.get(ROOT + "1"), store.put(ROOT + "1", b"lost"), store.list(ROOT), store.revision()):
                with pytest.raises(StoreUnavailable, match=etcd.endpoint):
                    await call
        await etcd.start()
        # The store's own connections come back by themselves, and the watch goes on where it was.
        async with open_store(etcd.url) as another:
            await another.put(ROOT + "2", b"while away")
        await watched.has(2, seconds=5)
        await store.put(ROOT + "3", b"after")
        await watched.has(3)
    assert watched.changes == [(ROOT + "1", b"before"), (ROOT + "2", b"while away"), (ROOT + "3", b"after")]


async def test_a_store_opens_and_a_watch_waits_while_etcd_is_down(etcd: Etcd, store: ConfigStore) -> None:
    revision = await store.put(ROOT + "1", b"")
    etcd.kill()
    async with open_store(etcd.url) as late, watching(late, ROOT, revision) as watched:
        with pytest.raises(StoreUnavailable):
            await late.list(ROOT)
        await etcd.start()
        await watched.has(1, seconds=5)


async def test_a_frozen_server_is_noticed_and_a_write_after_the_thaw_arrives(etcd: Etcd, store: ConfigStore) -> None:
    loop = asyncio.get_running_loop()
    listing = await store.list(ROOT)
    async with watching(store, ROOT, listing.revision + 1) as watched:
        await store.put(ROOT + "1", b"")
        await watched.has(1)
        etcd.freeze()
        began = loop.time()
        with pytest.raises(StoreUnavailable):
            await store.get(ROOT + "1")
        assert loop.time() - began < 5.5
        with pytest.raises(StoreUnavailable):
            await store.put(ROOT + "never", b"")
        etcd.thaw()
        await put_when_possible(store, ROOT + "2")
        await watched.has(2, seconds=5)
    assert (ROOT + "2", b"") in watched.changes


async def test_a_watch_leaves_a_connection_that_fell_silent(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither closed nor reset: as after a firewall forgot it, or a machine froze."""
    # The watch begins with the first endpoint.
    monkeypatch.setattr(random, "randrange", lambda _: 0)
    async with relay(etcd.port) as path, open_store(f"etcd://{path.endpoint},{etcd.endpoint}") as store:
        listing = await store.list(ROOT)
        async with watching(store, ROOT, listing.revision + 1) as watched, open_store(etcd.url) as another:
            await another.put(ROOT + "1", b"")
            await watched.has(1)
            path.mute = True
            await another.put(ROOT + "2", b"")
            await watched.has(2, seconds=6)


async def test_a_read_leaves_an_endpoint_that_is_silent(etcd: Etcd) -> None:
    async with relay(etcd.port) as path, open_store(f"etcd://{path.endpoint},{etcd.endpoint}") as store:
        await store.put(ROOT + "1", b"")
        path.mute = True
        assert await store.get(ROOT + "1") is not None


async def test_an_endpoint_that_accepts_and_is_mute_is_passed_over(etcd: Etcd) -> None:
    async with relay(etcd.port) as path, open_store(f"etcd://{path.endpoint},{etcd.endpoint}") as store:
        path.mute = True
        async with asyncio.timeout(5):
            revision = await store.put(ROOT + "1", b"")
        async with watching(store, ROOT, revision) as watched:
            await watched.has(1)


async def test_dead_endpoints_in_the_list_cost_nothing_but_time(etcd: Etcd) -> None:
    dead = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
    async with open_store(f"etcd://{dead},{etcd.endpoint}") as store, asyncio.timeout(5):
        revision = await store.put(ROOT + "1", b"")
        assert len((await store.list(ROOT)).entries) == 1
        async with watching(store, ROOT, revision) as watched:
            await watched.has(1)


async def test_when_no_endpoint_answers_each_is_named(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    async with open_store(f"etcd://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}") as store:
        with pytest.raises(StoreUnavailable, match=rf"{ports[0]}.*{ports[1]}"):
            await store.get(ROOT + "1")


async def test_a_cluster_serves_while_most_of_it_lives(tmp_path: Path) -> None:
    """Each member in turn is killed, the leader among them; every write arrives once and in order."""
    async with running_cluster(tmp_path, 3) as members:
        url = "etcd://" + ",".join(member.endpoint for member in members)
        async with open_store(url) as store:
            listing = await store.list(ROOT)
            async with watching(store, ROOT, listing.revision + 1) as watched:
                for number, member in enumerate(members):
                    member.kill()
                    await put_when_possible(store, f"{ROOT}{number}")
                    assert await store.get(f"{ROOT}{number}") is not None
                    await member.start()
                await until(lambda: {key for key, _ in watched.changes} == {f"{ROOT}{number}" for number in range(3)})


async def test_a_member_without_a_majority_is_unavailable_until_it_has_one(tmp_path: Path) -> None:
    """It still takes connections, and a watch on it must not wait for ever."""
    async with running_cluster(tmp_path, 3) as members:
        lonely, *others = members
        async with open_store(f"etcd://{lonely.endpoint}") as store:
            listing = await store.list(ROOT)
            async with watching(store, ROOT, listing.revision + 1) as watched:
                await store.put(ROOT + "1", b"")
                await watched.has(1)
                for member in others:
                    member.freeze()
                with pytest.raises(StoreUnavailable):
                    await store.put(ROOT + "2", b"")
                for member in others:
                    member.thaw()
                await put_when_possible(store, ROOT + "3")
                await until(lambda: (ROOT + "3", b"") in watched.changes)


async def test_a_wiped_server_is_told_as_compacted(etcd: Etcd, store: ConfigStore) -> None:
    for number in range(20):
        await store.put(f"{ROOT}{number}", b"old")
    listing = await store.list(ROOT)
    async with watching(store, ROOT, listing.revision + 1) as watched:
        etcd.kill()
        etcd.wipe()
        await etcd.start()
        await watched.is_compacted()
    again = await store.list(ROOT)
    assert again.entries == ()
    async with watching(store, ROOT, again.revision + 1) as watched:
        await store.put(ROOT + "new", b"")
        await watched.has(1)


async def test_a_wiped_server_that_grew_past_the_reader_is_told_as_compacted(etcd: Etcd, store: ConfigStore) -> None:
    """Revision and cluster id are as before; only the history is another."""
    await store.put(ROOT + "1", b"old")
    listing = await store.list(ROOT)
    etcd.kill()
    etcd.wipe()
    await etcd.start()
    while await store.revision() <= listing.revision:
        await store.put(ROOT + "2", b"new")
    async with watching(store, ROOT, listing.revision + 1) as watched:
        await watched.is_compacted()
    again = await store.list(ROOT)
    async with watching(store, ROOT, again.revision + 1) as watched:
        await store.put(ROOT + "3", b"new")
        await watched.has(1)


async def test_an_identity_is_written_once_and_read_by_all(etcd: Etcd) -> None:
    async with open_store(etcd.url) as one, open_store(etcd.url) as two:
        await asyncio.gather(*(store.list(ROOT) for store in (one, two) for _ in range(3)))
        entry = await one.get(STORE_IDENTITY)
    assert entry is not None
    assert entry.version == 1


async def test_an_idle_watch_follows_the_progress_of_others(tmp_path: Path) -> None:
    """So that it can come back after a compaction of what did not concern it."""
    option = "--experimental-watch-progress-notify-interval=200ms"
    async with running_etcd(tmp_path / "etcd", option) as server, open_store(server.url) as store:
        start = await store.revision() + 1
        async with watching(store, ROOT, start) as watched:
            for _ in range(10):
                latest = await store.put("/elsewhere", b"")
            await until(lambda: watched.revision == latest)
            server.kill()
            await server.start()
            await server.control("compact", str(latest))
            await store.put(ROOT + "1", b"")
            await watched.has(1, seconds=5)
    assert watched.changes == [(ROOT + "1", b"")]


async def test_an_expired_history_during_an_outage_is_told(etcd: Etcd, store: ConfigStore) -> None:
    listing = await store.list(ROOT)
    async with watching(store, ROOT, listing.revision + 1) as watched:
        await store.put(ROOT + "1", b"")
        await watched.has(1)
        etcd.kill()
        await etcd.start()
        for _ in range(5):
            await etcd.control("put", ROOT + "1", "x")
        await etcd.control("compact", "8")
        # The watch may have been back before the compaction; then it has seen everything.
        await until(lambda: watched.ended is not None or len(watched.events) == 6)


async def test_large_transactions_come_whole_though_etcd_fragments_them(etcd: Etcd, store: ConfigStore) -> None:
    """Many large revisions at once: etcd cuts the catch-up of a watch into fragments of about 1.5 MiB."""
    start = await store.revision() + 1
    for number in range(12):
        await store.transaction((), [Put(f"{ROOT}{number}/{part}", b"x" * 350_000) for part in range(4)])
    async with watching(store, ROOT, start) as watched:
        await watched.has(48, seconds=10)
    for batch in watched.batches:
        revisions = [event.revision for event in batch.events]
        assert all(revisions.count(revision) == 4 for revision in revisions)


async def test_a_list_of_many_large_values_passes_the_message_limit(etcd: Etcd, store: ConfigStore) -> None:
    for number in range(12):
        await store.put(f"{ROOT}{number}", b"x" * 1_000_000)
    assert sum(len(entry.value) for entry in (await store.list(ROOT)).entries) == 12_000_000


async def test_keys_of_others_that_are_no_text_come_through(etcd: Etcd, store: ConfigStore) -> None:
    key = ROOT + "\udcff\udc80"
    revision = await store.put(key, b"1")
    assert (await store.list(ROOT)).entries[0].key == key
    async with watching(store, ROOT, revision) as watched:
        await watched.has(1)
    assert watched.changes == [(key, b"1")]


class TestLogin:
    @pytest.fixture
    async def guarded(self, etcd: Etcd) -> Etcd:
        """root, and a user `gateway` who may touch /apisix/ alone."""
        for line in (
            "user add root:r00t",
            "user grant-role root root",
            "user add gateway:p@ss/word",
            "role add config",
            "role grant-permission config readwrite --prefix=true /apisix/",
            "user grant-role gateway config",
            "auth enable",
        ):
            await etcd.control(*line.split())
        return etcd

    @pytest.fixture
    async def url(self, guarded: Etcd) -> str:
        return f"etcd://gateway:p%40ss%2Fword@{guarded.endpoint}"

    async def test_a_user_reads_writes_and_watches(self, url: str) -> None:
        async with open_store(url) as store:
            listing = await store.list(ROOT)
            async with watching(store, ROOT, listing.revision + 1) as watched:
                await store.put(ROOT + "1", b"")
                await watched.has(1)

    async def test_a_key_that_the_user_may_not_touch_is_refused(self, url: str) -> None:
        async with open_store(url) as store:
            for call in (store.put("/other/1", b""), store.get("/other/1"), store.list("/other/")):
                with pytest.raises(StoreUnavailable, match="permission denied"):
                    await call
            await store.put(ROOT + "1", b"")

    @pytest.mark.parametrize("login", ["gateway:wrong@", "nobody:x@", ""])
    async def test_a_wrong_login_is_said_without_the_password(self, guarded: Etcd, login: str) -> None:
        async with open_store(f"etcd://{login}{guarded.endpoint}") as store:
            with pytest.raises(StoreUnavailable, match=r"invalid user ID or password|user name is empty") as caught:
                await store.put(ROOT + "1", b"")
        assert "wrong" not in str(caught.value)

    async def test_a_restart_forgets_tokens_and_nothing_else_is_noticed(self, guarded: Etcd, url: str) -> None:
        async with open_store(url) as store:
            listing = await store.list(ROOT)
            async with watching(store, ROOT, listing.revision + 1) as watched:
                await store.put(ROOT + "1", b"")
                guarded.kill()
                await guarded.start()
                await store.put(ROOT + "2", b"")
                await watched.has(2)

    async def test_a_token_that_is_refused_is_renewed(self, url: str, guarded: Etcd) -> None:
        """Switching authentication off and on makes every token invalid that was given before."""
        async with open_store(url) as store:
            await store.put(ROOT + "1", b"")
            await guarded.control("--user=root:r00t", "auth", "disable")
            await guarded.control("auth", "enable")
            await store.put(ROOT + "2", b"")
            assert len((await store.list(ROOT)).entries) == 2

    async def test_a_login_where_none_is_asked_is_no_error(self, etcd: Etcd) -> None:
        async with open_store(f"etcd://someone:word@{etcd.endpoint}") as store:
            await store.put(ROOT + "1", b"")


class TestTls:
    async def test_both_sides_prove_themselves(self, tmp_path: Path) -> None:
        files = make_certificates(tmp_path / "good")
        async with running_etcd(tmp_path / "etcd", certificates=files) as server, open_store(server.url) as store:
            revision = await store.put(ROOT + "1", b"")
            async with watching(store, ROOT, revision) as watched:
                await watched.has(1)

    async def test_whoever_cannot_is_not_served(self, tmp_path: Path) -> None:
        files, foreign = make_certificates(tmp_path / "good"), make_certificates(tmp_path / "foreign")
        async with running_etcd(tmp_path / "etcd", certificates=files) as server:
            for url in (
                f"etcd://{server.endpoint}",
                f"etcds://{server.endpoint}",
                f"etcds://{server.endpoint}?ca={foreign.ca}&cert={files.cert}&key={files.key}",
                f"etcds://{server.endpoint}?ca={files.ca}&cert={foreign.cert}&key={foreign.key}",
            ):
                async with open_store(url) as store:
                    with pytest.raises(StoreUnavailable, match=server.endpoint):
                        await store.put(ROOT + "1", b"")


async def test_refusals_of_the_server_keep_their_meaning(etcd: Etcd, store: ConfigStore) -> None:
    with pytest.raises(LeaseNotFound):
        await store.put(ROOT + "1", b"", lease=12345)
    with pytest.raises(TooLarge):
        await store.put(ROOT + "1", b"x" * 2_000_000)
    # None of it was an outage: the connection serves on.
    await store.put(ROOT + "1", b"")


async def test_calls_at_once_share_one_connection(etcd: Etcd, store: ConfigStore) -> None:
    await asyncio.gather(*(store.put(f"{ROOT}{number}", b"") for number in range(200)))
    assert len((await store.list(ROOT)).entries) == 200


async def put_when_possible(store: ConfigStore, key: str) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await store.put(key, b"")
                return
            except StoreUnavailable:
                await asyncio.sleep(0.05)
