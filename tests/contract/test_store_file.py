"""The engine that is a file: what it shows of it, and when."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.keys import CONFIG_PREFIX
from shared.store import file as engine
from shared.store.blobs import get_module
from shared.store.contract import Compacted, ConfigStore, Put, StoreError, StoreUnavailable
from shared.store.url import open_store
from tests.support.config_source import eventually
from tests.support.store import watching

ROUTE = "/apisix/routes/"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOOK_SECONDS", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


def write(path: Path, text: str) -> None:
    """As a careful editor does: whole at once."""
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)


def routes(*ids: str, uri: str = "/a") -> str:
    return "routes:\n" + "".join(f"  - {{id: {id}, uri: {uri}}}\n" for id in ids)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[ConfigStore]:
    async with open_store(f"yaml://{path}") as store:
        yield store


async def test_what_changes_is_watched_and_what_does_not_keeps_its_revision(path: Path) -> None:
    write(path, routes("1", "2"))
    async with opened(path) as store:
        first = await store.list(CONFIG_PREFIX)
        assert [(entry.key, entry.mod_revision) for entry in first.entries] == [(f"{ROUTE}1", 1), (f"{ROUTE}2", 1)]
        async with watching(store, CONFIG_PREFIX, first.revision + 1) as watched:
            write(path, routes("2", "3"))
            await watched.has(2)
            assert watched.changes == [(f"{ROUTE}1", None), (f"{ROUTE}3", b'{"id":3,"uri":"/a"}')]
            write(path, "# with a comment\n" + routes("2", "3"))
            write(path, routes("2", "3", uri="/b"))
            await watched.has(4)
        after = await store.list(CONFIG_PREFIX)
        assert {(entry.key, entry.create_revision, entry.version) for entry in after.entries} == {
            (f"{ROUTE}2", 1, 2),
            (f"{ROUTE}3", 2, 2),
        }
        assert await store.get(f"{ROUTE}1") is None


async def test_a_bad_file_changes_nothing_and_is_said_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, routes("1"))
    with caplog.at_level(logging.INFO, "waspgate.store"):
        async with opened(path) as store:
            write(path, "routes: [")
            await eventually(lambda: caplog.messages)
            os.unlink(path)
            await eventually(lambda: len(caplog.messages) == 2)
            assert len((await store.list(CONFIG_PREFIX)).entries) == 1
            write(path, routes("1", "2"))
            await eventually(lambda: len(caplog.messages) == 3)
            assert len((await store.list(CONFIG_PREFIX)).entries) == 2
    assert "line 2 column 1; the last good configuration stays" in caplog.messages[0]
    assert "No such file" in caplog.messages[1]
    assert caplog.messages[2].endswith("is good again")


async def test_a_file_that_comes_late_is_waited_for(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match="No such file"):
            await store.list(CONFIG_PREFIX)
        write(path, "")
        async with watching(store, CONFIG_PREFIX, 1) as watched:
            await eventually(lambda: watched.revision == 1)
        assert (await store.list(CONFIG_PREFIX)).entries == ()


async def test_a_file_that_had_its_mark_is_read_when_it_has_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    read = engine._read

    def reading(file: Path) -> engine._Read:
        texts.append(file.read_text())
        return read(file)

    monkeypatch.setattr(engine, "_read", reading)
    write(path, routes("1") + "#END\n")
    async with opened(path) as store:
        first = await store.list(CONFIG_PREFIX)
        async with watching(store, CONFIG_PREFIX, first.revision + 1) as watched:
            half = "# half\n"
            write(path, half)
            # Looked at twice, and believed neither time.
            await eventually(lambda: texts.count(half) == 2)
            write(path, routes("1", "2") + "#END\n")
            await watched.has(1)
            assert watched.changes == [(f"{ROUTE}2", b'{"id":2,"uri":"/a"}')]


async def test_modules_come_from_their_files_and_change_with_them(path: Path) -> None:
    module = path.with_name("p.wasm")
    module.write_bytes(b"a" * 3_000_000)
    write(path, "wasm_plugins: [{id: p, module: {file: p.wasm}}]")
    async with opened(path) as store:
        first = await store.list(CONFIG_PREFIX)
        assert await get_module(store, hashlib.sha256(b"a" * 3_000_000).hexdigest()) == b"a" * 3_000_000
        assert await get_module(store, "0" * 64) is None
        async with watching(store, CONFIG_PREFIX, first.revision + 1) as watched:
            module.write_bytes(b"b")
            await watched.has(1)
        assert await get_module(store, hashlib.sha256(b"b").hexdigest()) == b"b"


async def test_a_module_that_is_mended_mends_the_file(path: Path) -> None:
    write(path, "wasm_plugins: [{id: p, module: {file: p.wasm}}]")
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match=r"module\.file"):
            await store.list(CONFIG_PREFIX)
        path.with_name("p.wasm").write_bytes(b"b")
        async with watching(store, CONFIG_PREFIX, 1) as watched:
            await watched.has(1)


async def test_who_missed_a_change_lists_again(path: Path) -> None:
    write(path, routes("1"))
    async with opened(path) as store:
        async with watching(store, CONFIG_PREFIX, 2) as watched:
            write(path, routes("2"))
            await watched.has(2)
            write(path, routes("3"))
            await watched.has(4)
        with pytest.raises(Compacted):
            async for _ in store.watch(CONFIG_PREFIX, 1):
                pass


async def test_it_takes_no_writes(path: Path) -> None:
    write(path, "")
    async with opened(path) as store:
        for call in (store.put("/a", b""), store.delete("/a"), store.transaction((), (Put("/a", b""),)), store.grant_lease(1)):
            with pytest.raises(StoreError, match="takes no writes"):
                await call
