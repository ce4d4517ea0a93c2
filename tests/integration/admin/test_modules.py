"""Wasm modules: upload, file, digest, download, collection."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from shared.keys import MODULE_PREFIX, module_key
from shared.store.blobs import get_module, put_module
from shared.store.contract import ConfigStore
from tests.support.admin import Admin, admin
from tests.support.guests import GUEST, assemble

WASM = assemble()
OTHER = assemble(GUEST.replace("1024", "2048"))
DIGEST = hashlib.sha256(WASM).hexdigest()
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()
BAD = assemble(GUEST.replace('"proxy_log"', '"redis_call"'))


async def module_of(api: Admin, name: str) -> Any:  # noqa: ANN401 - a JSON value
    return (await api.ok("GET", f"/wasm_plugins/{name}"))["value"].get("module")


async def test_an_upload_makes_the_plugin_and_says_what_it_found(api: Admin) -> None:
    first = await api.call("PUT", "/wasm_plugins/p/module", content=WASM)
    again = await api.call("PUT", "/wasm_plugins/p/module", content=OTHER)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == {
        "key": "/apisix/wasm_plugins/p",
        "sha256": DIGEST,
        "size": len(WASM),
        "name": "",
        "abi_version": "0.2.1",
        "callbacks": ["proxy_on_context_create", "proxy_on_request_headers"],
        "host_functions": ["proxy_log"],
        "wasi_functions": ["fd_write"],
        "toolchain_functions": [],
        "allocator": "proxy_on_memory_allocate",
        "memory_minimum_pages": 1,
        "memory_maximum_pages": 4,
        "mistyped_exports": [],
    }
    assert again.json()["sha256"] == OTHER_DIGEST
    assert await module_of(api, "p") == {"sha256": OTHER_DIGEST}
    assert int(again.headers["X-Waspgate-Revision"]) > int(first.headers["X-Waspgate-Revision"])


async def test_an_upload_changes_nothing_else(api: Admin) -> None:
    await api.ok("PUT", "/wasm_plugins/p", {"priority": 9, "environment": {"A": "b"}})
    await api.upload("p", WASM)

    value = (await api.ok("GET", "/wasm_plugins/p"))["value"]
    assert (value["priority"], value["environment"], value["module"]) == (9, {"A": "b"}, {"sha256": DIGEST})


async def test_a_put_without_module_keeps_the_uploaded_one(api: Admin) -> None:
    await api.upload("p", WASM)

    value = (await api.ok("PUT", "/wasm_plugins/p", {"priority": 3}))["value"]

    assert value["module"] == {"sha256": DIGEST}


async def test_a_module_that_starts_with_more_memory_than_its_limit_is_refused(api: Admin) -> None:
    large = assemble(GUEST.replace('(memory (export "memory") 1 4)', '(memory (export "memory") 300)'))
    await api.upload("p", WASM)
    await api.ok("PATCH", "/wasm_plugins/p", {"limits": {"memory_bytes": 2**24}})

    answer = await api.refused(400, "PUT", "/wasm_plugins/p/module", content=large)
    assert answer == "the module starts with 19660800 bytes of memory, more than its limit of 16777216"
    assert await module_of(api, "p") == {"sha256": DIGEST}

    await api.upload("q", large)
    answer = await api.refused(400, "PATCH", "/wasm_plugins/q", {"limits": {"memory_bytes": 2**24}})
    assert "19660800" in answer
    await api.ok("PATCH", "/wasm_plugins/q", {"limits": {"memory_bytes": 2**25}})


async def test_download(api: Admin) -> None:
    await api.upload("p", WASM)
    await api.ok("PUT", "/wasm_plugins/empty", {})

    response = await api.call("GET", "/wasm_plugins/p/module")

    assert response.content == WASM
    assert response.headers["content-type"] == "application/wasm"
    assert response.headers["etag"] == f'"{DIGEST}"'
    assert await api.refused(404, "GET", "/wasm_plugins/empty/module") == "Key not found"
    assert await api.refused(404, "GET", "/wasm_plugins/absent/module") == "Key not found"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "missing module"),
        (b"MZ", "invalid module: not a Wasm module"),
        (WASM[:-4], "invalid module: corrupt Wasm module"),
        (BAD, "invalid module: unknown import env.redis_call"),
        (assemble("(module)"), "invalid module: not a Proxy-Wasm plugin"),
        (WASM[:-3] + b"\xff\xff\xff", "invalid module: "),
    ],
)
async def test_a_module_that_can_not_run_changes_nothing(api: Admin, data: bytes, message: str) -> None:
    assert message in await api.refused(400, "PUT", "/wasm_plugins/p/module", content=data)
    assert (await api.call("GET", "/wasm_plugins/p")).status_code == 404


async def test_a_module_that_is_too_large_is_413(api: Admin) -> None:
    limit = 32 * 1024 * 1024

    message = await api.refused(413, "PUT", "/wasm_plugins/p/module", content=bytes(limit + 1))

    assert message == f"module size {limit + 1} is greater than the maximum size {limit} allowed"


async def test_a_file_is_read_and_pinned(api: Admin, tmp_path: Path) -> None:
    path = tmp_path / "p.wasm"
    path.write_bytes(WASM)

    first = await api.ok("PUT", "/wasm_plugins/p", {"module": {"file": str(path)}})
    path.write_bytes(OTHER)
    patched = await api.ok("PATCH", "/wasm_plugins/p", {"priority": 5})
    again = await api.ok("PUT", "/wasm_plugins/p", {"module": {"file": str(path)}})

    assert first["value"]["module"] == patched["value"]["module"] == {"file": str(path), "sha256": DIGEST}
    assert again["value"]["module"] == {"file": str(path), "sha256": OTHER_DIGEST}
    assert (await api.call("GET", "/wasm_plugins/p/module")).content == OTHER


async def test_a_patch_to_another_file_takes_its_digest(api: Admin, tmp_path: Path) -> None:
    (tmp_path / "a.wasm").write_bytes(WASM)
    (tmp_path / "b.wasm").write_bytes(OTHER)
    await api.ok("PUT", "/wasm_plugins/p", {"module": {"file": str(tmp_path / "a.wasm")}})

    await api.ok("PATCH", "/wasm_plugins/p", {"module": {"file": str(tmp_path / "b.wasm")}})

    assert await module_of(api, "p") == {"file": str(tmp_path / "b.wasm"), "sha256": OTHER_DIGEST}


async def test_a_digest_beside_a_file_is_checked(api: Admin, tmp_path: Path) -> None:
    path = tmp_path / "p.wasm"
    path.write_bytes(WASM)

    await api.ok("PUT", "/wasm_plugins/p", {"module": {"file": str(path), "sha256": DIGEST}})
    message = await api.refused(400, "PUT", "/wasm_plugins/p", {"module": {"file": str(path), "sha256": OTHER_DIGEST}})

    assert message == f"module file {path}: its sha256 is {DIGEST}, expected {OTHER_DIGEST}"


async def test_files_that_can_not_be_used(api: Admin, tmp_path: Path) -> None:
    (tmp_path / "bad.wasm").write_bytes(BAD)
    (tmp_path / "large.wasm").touch()
    os.truncate(tmp_path / "large.wasm", 32 * 1024 * 1024 + 1)
    os.mkfifo(tmp_path / "fifo")

    for name, message in (
        ("absent", "No such file or directory"),
        ("", "Is a directory"),
        ("fifo", "not a regular file"),
        ("large.wasm", "larger than the maximum size 33554432"),
        ("bad.wasm", "unknown import env.redis_call"),
    ):
        path = str(tmp_path / name)
        answer = await api.refused(400, "PUT", "/wasm_plugins/p", {"module": {"file": path}})
        assert answer.startswith(f"module file {path}: ")
        assert message in answer


async def test_a_digest_must_be_in_the_store(api: Admin, store: ConfigStore) -> None:
    message = await api.refused(400, "PUT", "/wasm_plugins/p", {"module": {"sha256": DIGEST}})
    assert message == f"there is no module with sha256 [{DIGEST}] in the store: upload it first"

    await put_module(store, WASM)
    await api.ok("PUT", "/wasm_plugins/p", {"module": {"sha256": DIGEST}})


async def collected(store: ConfigStore, sha256: str, from_revision: int) -> None:
    async for batch in store.watch(MODULE_PREFIX, from_revision):
        if any(event.key == module_key(sha256) and event.entry is None for event in batch.events):
            return


async def test_modules_that_nothing_points_at_are_collected(store: ConfigStore) -> None:
    async with admin(store) as api:
        await api.upload("used", WASM)
    await put_module(store, WASM, now=lambda: 0.0)
    await put_module(store, OTHER, now=lambda: 0.0)
    revision = await store.revision()
    async with admin(store, collect_seconds=0.01):
        async with asyncio.timeout(10):
            await collected(store, OTHER_DIGEST, revision + 1)

        assert await get_module(store, DIGEST) == WASM


async def test_uploads_at_once_end_with_one_of_them(api: Admin) -> None:
    await asyncio.gather(*(api.upload("p", data) for data in (WASM, OTHER) * 3))

    assert (await module_of(api, "p"))["sha256"] in (DIGEST, OTHER_DIGEST)
