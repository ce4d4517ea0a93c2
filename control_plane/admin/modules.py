"""Wasm modules on their way into the store: uploaded, read, fetched or pulled; inspected, stored by digest, pointed at.

The law: no plugin ever points at bytes that were not inspected and are not in the store. Inspecting and validating
take up to seconds of CPU for a large module, so they run in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from control_plane.errors import BadRequest
from control_plane.sources.failure import SourceError
from control_plane.sources.sources import Sources
from shared.proxy_wasm.binary import ModuleError
from shared.proxy_wasm.engine import Engine
from shared.proxy_wasm.inspect import ModuleReport, inspect
from shared.store.blobs import MAX_MODULE_BYTES, get_module, hold_module, put_module
from shared.store.contract import ConfigStore

# Of Wasm memory.
PAGE = 65536


@cache
def _engine() -> Engine:
    return Engine()


def examine(data: bytes) -> ModuleReport:
    """The report of a module that this gateway can run; raises ModuleError. Blocking."""
    report = inspect(data)
    _engine().validate(data)
    return report


def read_module_file(path: str) -> bytes:
    """A regular file of at most the size that the store takes; raises BadRequest. Blocking."""
    try:
        # Opening a FIFO would wait for its other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadRequest(f"module file {path}: not a regular file")
            data = file.read(MAX_MODULE_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"module file {path}: {error.strerror}") from error
    if len(data) > MAX_MODULE_BYTES:
        raise BadRequest(f"module file {path}: larger than the maximum size {MAX_MODULE_BYTES}")
    return data


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of one store."""

    store: ConfigStore
    sources: Sources

    async def accept(self, data: bytes) -> ModuleReport:
        """Inspect and store; raises ModuleError."""
        report = await asyncio.to_thread(examine, data)
        await put_module(self.store, data)
        return report

    async def get(self, sha256: str) -> bytes | None:
        return await get_module(self.store, sha256)

    async def resolve(self, wanted: Mapping[str, Any], previous: Mapping[str, Any] | None) -> dict[str, Any]:
        """The stored form of a validated `module`: always with `sha256`. An unchanged one is not read again."""
        if wanted == previous and "sha256" in wanted:
            return dict(wanted)
        if "file" in wanted:
            return await self._from_file(wanted, previous or {})
        if "url" in wanted:
            return await self._from_url(wanted["url"], wanted["sha256"])
        if "oci" in wanted:
            return await self._from_registry(wanted, previous or {})
        await self._require(wanted["sha256"])
        return dict(wanted)

    async def check_memory(self, sha256: str, limit: int) -> None:
        """Raises BadRequest when the module could not even start within its memory limit."""
        data = await self.get(sha256)
        if data is None:
            return
        report = await asyncio.to_thread(inspect, data)
        needed = report.memory_minimum_pages * PAGE
        if needed > limit:
            text = f"the module starts with {needed} bytes of memory, more than its limit of {limit}"
            raise BadRequest(text, errors=[{"path": "$.limits.memory_bytes", "message": text}])

    async def _require(self, sha256: str) -> None:
        if not await hold_module(self.store, sha256):
            raise BadRequest(f"there is no module with sha256 [{sha256}] in the store: upload it first")

    async def _from_file(self, wanted: Mapping[str, Any], previous: Mapping[str, Any]) -> dict[str, Any]:
        path = wanted["file"]
        data = await asyncio.to_thread(read_module_file, path)
        sha256 = await self._accepted(f"file {path}", data)
        _check_claim(f"file {path}", sha256, wanted, previous, "file")
        return {"file": path, "sha256": sha256}

    async def _from_url(self, url: str, sha256: str) -> dict[str, Any]:
        """What the store has is not fetched: a digest means the same bytes everywhere."""
        if not await hold_module(self.store, sha256):
            try:
                data = await self.sources.fetch(url)
            except SourceError as error:
                raise BadRequest(f"module url {url}: {error}") from error
            found = await asyncio.to_thread(_digest, data)
            if found != sha256:
                raise BadRequest(f"module url {url}: its sha256 is {found}, expected {sha256}")
            await self._accepted(f"url {url}", data)
        return {"url": url, "sha256": sha256}

    async def _from_registry(self, wanted: Mapping[str, Any], previous: Mapping[str, Any]) -> dict[str, Any]:
        """The reference is stored with the digest that it stood for."""
        what = f"oci {wanted['oci']}"
        try:
            pulled = await self.sources.pull(wanted["oci"], self._has)
        except SourceError as error:
            raise BadRequest(f"module {what}: {error}") from error
        _check_claim(what, pulled.sha256, wanted, previous, "oci")
        if pulled.data is not None:
            await self._accepted(what, pulled.data)
        return {"oci": str(pulled.reference), "sha256": pulled.sha256}

    async def _has(self, sha256: str) -> bool:
        return await hold_module(self.store, sha256)

    async def _accepted(self, what: str, data: bytes) -> str:
        try:
            return (await self.accept(data)).sha256
        except ModuleError as error:
            raise BadRequest(f"module {what}: {error}") from error


def _check_claim(what: str, found: str, wanted: Mapping[str, Any], previous: Mapping[str, Any], source: str) -> None:
    """A digest beside a file or reference is a claim to check, unless it is only left over from the one before."""
    claimed = wanted.get("sha256", found)
    left_over = claimed == previous.get("sha256") and wanted[source] != previous.get(source)
    if claimed != found and not left_over:
        raise BadRequest(f"module {what}: its sha256 is {found}, expected {claimed}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
