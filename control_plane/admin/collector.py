"""Removes the modules that nobody needs any more.

The law: what a plugin points at, and what is a version of a plugin, stays; so does what somebody stored or wanted a moment ago.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from control_plane.admin.versions import kept_digests
from shared.keys import kind_prefix
from shared.schema.document import DocumentError, decode
from shared.store.blobs import collect_modules
from shared.store.contract import ConfigStore, StoreError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Collector:
    store: ConfigStore

    async def collect_every(self, seconds: float) -> None:
        """Again and again, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                removed = await self.collect()
            except StoreError as error:
                log.warning("modules were not collected", error=str(error))
            else:
                if removed:
                    log.info("removed unreferenced modules", sha256=sorted(removed))

    async def collect(self) -> set[str]:
        """What is pointed at between the looks is held for longer than they take."""
        listing = await self.store.list(kind_prefix("wasm_plugins"))
        pointed_at = {digest for entry in listing.entries if (digest := _digest(entry.value))}
        return set(await collect_modules(self.store, pointed_at | await kept_digests(self.store)))


def _digest(value: bytes) -> str | None:
    try:
        document = decode(value)
    except DocumentError:
        return None
    module = document.get("module") if isinstance(document, dict) else None
    digest = module.get("sha256") if isinstance(module, dict) else None
    return digest if isinstance(digest, str) else None
