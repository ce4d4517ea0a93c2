"""What is kept of the store on disk: whole, private, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from data_plane.config import kept
from data_plane.config.kept import KeptSnapshot, kept_path
from shared.store.contract import Batch, Entry, Event, Listing
from tests.support.config_source import eventually

LISTING = Listing(7, (Entry("/apisix/routes/1", b"\xffone", 3, 5, 2), Entry("/apisix/routes/2", b"", 7, 7)))
MODULE = b"module"
DIGEST = sha256(MODULE).hexdigest()
PLUGIN = Entry("/apisix/wasm_plugins/p", json.dumps({"module": {"sha256": DIGEST}}).encode(), 8, 8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "THROTTLE_SECONDS", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "snapshots" / "x.db"


def put(key: str, value: bytes, revision: int) -> Event:
    return Event(key, revision, Entry(key, value, revision, revision))


async def read(path: Path) -> Listing | None:
    return await KeptSnapshot(path, writes=False).read()


async def test_what_was_listed_and_changed_is_read_by_the_next_worker(path: Path) -> None:
    assert await read(path) is None
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(LISTING)
    await snapshot.close()
    assert await read(path) == LISTING
    snapshot.changed(Batch(8, (put("/apisix/routes/3", b"three", 8), Event("/apisix/routes/1", 8, None))))
    snapshot.changed(Batch(9, (put("/apisix/routes/3", b"newer", 9),)))
    await snapshot.close()
    assert await read(path) == Listing(9, (LISTING.entries[1], Entry("/apisix/routes/3", b"newer", 9, 9)))


async def test_it_is_written_by_itself_after_a_while(path: Path) -> None:
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(LISTING)
    snapshot.changed(Batch(8, (put("/apisix/routes/3", b"", 8),)))
    await eventually(lambda: os.path.exists(path))
    await snapshot.close()
    found = await read(path)
    assert found is not None
    assert (found.revision, len(found.entries)) == (8, 3)


async def test_it_is_the_owners_alone(path: Path) -> None:
    mask = os.umask(0)
    try:
        snapshot = KeptSnapshot(path, writes=True)
        snapshot.listed(LISTING)
        await snapshot.close()
    finally:
        os.umask(mask)
    assert [stat.S_IMODE(os.stat(place).st_mode) for place in (path, path.parent)] == [0o600, 0o700]


async def test_a_worker_that_only_reads_writes_nothing(path: Path) -> None:
    reader = KeptSnapshot(path, writes=False)
    reader.listed(LISTING)
    reader.changed(Batch(8, (put("/a", b"", 8),)))
    reader.fetched(DIGEST, MODULE)
    await reader.close()
    assert await read(path) is None


async def test_an_older_writer_takes_nothing_back(path: Path) -> None:
    new, old = (KeptSnapshot(path, writes=True) for _ in range(2))
    new.listed(LISTING)
    new.changed(Batch(9, (put("/apisix/routes/3", b"newer", 9),)))
    await new.close()
    old.changed(Batch(8, (put("/apisix/routes/3", b"older", 8),)))
    await old.close()
    found = await read(path)
    assert found is not None
    assert (found.revision, found.entries[-1].value) == (9, b"newer")


async def test_a_listing_of_another_history_replaces_all(path: Path) -> None:
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(LISTING)
    await snapshot.close()
    restored = Listing(2, (Entry("/apisix/routes/9", b"", 2, 2),))
    snapshot.listed(restored)
    await snapshot.close()
    assert await read(path) == restored


async def test_modules_are_kept_while_a_plugin_names_them(path: Path) -> None:
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(Listing(8, (PLUGIN,)))
    snapshot.fetched(DIGEST, MODULE)
    snapshot.fetched("0" * 64, b"nobody's")
    await snapshot.close()
    assert await snapshot.module(DIGEST) == MODULE
    assert await snapshot.module("0" * 64) is None
    snapshot.changed(Batch(9, (Event(PLUGIN.key, 9, None),)))
    await snapshot.close()
    assert await snapshot.module(DIGEST) is None


async def test_a_damaged_module_is_none(path: Path) -> None:
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(Listing(8, (PLUGIN,)))
    snapshot.fetched(DIGEST, b"something else")
    await snapshot.close()
    assert await snapshot.module(DIGEST) is None


async def test_a_file_that_is_damaged_is_no_snapshot_and_is_made_anew(path: Path) -> None:
    os.makedirs(path.parent)
    await asyncio.to_thread(path.write_bytes, b"no database" * 1000)
    snapshot = KeptSnapshot(path, writes=True)
    assert await snapshot.read() is None
    assert await snapshot.module(DIGEST) is None
    snapshot.listed(LISTING)
    await snapshot.close()
    snapshot.listed(LISTING)
    await snapshot.close()
    assert await snapshot.read() == LISTING


async def test_a_later_format_is_no_snapshot(path: Path) -> None:
    snapshot = KeptSnapshot(path, writes=True)
    snapshot.listed(LISTING)
    await snapshot.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert await read(path) is None


async def test_a_disk_that_takes_nothing_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    snapshot = KeptSnapshot(tmp_path / "file" / "x.db", writes=True)
    for _ in range(2):
        snapshot.listed(LISTING)
        await snapshot.close()
    assert await snapshot.read() is None
    assert capsys.readouterr().out.count("the configuration is not kept on disk") == 1


def test_a_store_has_one_place_whoever_logs_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert kept_path("etcd://user:secret@host:1") == kept_path("etcd://host:1") != kept_path("etcd://host:2")
    assert kept_path("etcd://host:1").parent == tmp_path / "waspgate" / "snapshots"
