"""A data plane whose etcd is away when it starts, or comes back as another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.keys import resource_key
from shared.store.blobs import put_module
from shared.store.url import open_store
from tests.support.command import free_port, wait_until
from tests.support.data_plane import DataPlane
from tests.support.etcd import Etcd, binary
from tests.support.gateway import HOST, answering, ok, upstream
from tests.support.guests import assemble
from tests.support.raw_http import client


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with upstream(answering(ok())) as server:
        yield server.port


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "etcd")
    asyncio.run(server.start())
    yield server
    server.kill()


def write(etcd: Etcd, port: int, *names: str, plugin: bool = False) -> None:
    async def put() -> None:
        async with open_store(etcd.url) as store:
            plugins = {}
            if plugin:
                digest = await put_module(store, assemble())
                await store.put(resource_key("wasm_plugins", "p"), json.dumps({"module": {"sha256": digest}}).encode())
                plugins = {"p": {"conf": "x"}}
            for name in names:
                document = {"uri": f"/{name}", "plugins": plugins, "upstream": {"nodes": {f"{HOST}:{port}": 1}}}
                await store.put(resource_key("routes", name), json.dumps(document).encode())

    asyncio.run(put())


def ask(plane: DataPlane, name: str) -> int | None:
    try:
        with client(plane.port) as raw:
            return raw.get(f"/{name}".encode()).status
    except (OSError, EOFError):
        return None


def end(plane: DataPlane) -> None:
    plane.process.terminate()
    assert plane.process.wait(40) == 0


def test_a_start_without_the_store_serves_what_was_kept(tmp_path: Path, etcd: Etcd, port: int) -> None:
    write(etcd, port, "a", plugin=True)
    first = DataPlane(tmp_path, store=etcd.url)
    first.ready(1)
    assert ask(first, "a") == 200
    end(first)
    etcd.kill()
    page = f"{HOST}:{free_port()}"
    plane = DataPlane(tmp_path, "--workers", "2", "--status", page, store=etcd.url)
    try:
        plane.ready(2)
        assert [ask(plane, "a") for _ in range(8)] == [200] * 8
        assert plane.events("config store does not answer, serving the last snapshot on disk")
        wait_until(lambda: "the last snapshot on disk is served" in stale(page), "the status page says so")
        asyncio.run(etcd.start())
        write(etcd, port, "b")
        wait_until(lambda: [ask(plane, "b") for _ in range(8)] == [200] * 8, "the store is followed again")
        assert ask(plane, "a") == 200
        wait_until(lambda: stale(page) == "", "the status page says that all is well")
    finally:
        end(plane)


def stale(page: str) -> str:
    answer = httpx.get(f"http://{page}/status/ready", trust_env=False, timeout=10)
    assert answer.status_code == 200
    return str(answer.json().get("stale", ""))


def test_a_store_that_is_restored_from_a_backup_is_followed_from_there(tmp_path: Path, etcd: Etcd, port: int) -> None:
    """Its revision is smaller than the one that workers know, and its history another one."""
    write(etcd, port, "before")
    backup = tmp_path / "backup.db"
    asyncio.run(etcd.control("snapshot", "save", str(backup)))
    plane = DataPlane(tmp_path, store=etcd.url)
    try:
        plane.ready(1)
        write(etcd, port, *(f"later-{number}" for number in range(5)))
        wait_until(lambda: ask(plane, "later-4") == 200, "the route is served")
        etcd.kill()
        etcd.wipe()
        asyncio.run(restore(etcd, backup))
        asyncio.run(etcd.start())
        write(etcd, port, "restored", "later-1")
        wait_until(lambda: ask(plane, "restored") == 200, "what is written after the backup came back is served", 15)
        # An accident of the store takes no route away.
        assert [ask(plane, name) for name in ("before", "later-0", "later-1", "later-4")] == [200] * 4
    finally:
        end(plane)


async def restore(etcd: Etcd, backup: Path) -> None:
    peer = f"http://127.0.0.1:{etcd.peer_port}"
    try:
        tool = binary("etcdutl")
    except FileNotFoundError:
        # Before 3.5.
        tool = binary("etcdctl")
    process = await asyncio.create_subprocess_exec(
        tool,
        "snapshot",
        "restore",
        str(backup),
        f"--name={etcd.name}",
        f"--data-dir={etcd.folder / 'data'}",
        f"--initial-cluster={etcd.name}={peer}",
        f"--initial-advertise-peer-urls={peer}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"ETCDCTL_API": "3"},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
