"""Where modules are fetched from: URLs and registries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from control_plane.sources.download import Downloader
from control_plane.sources.failure import SourceError
from control_plane.sources.oci import Has, OciSource, Pulled
from shared.schema.oci_reference import OciReference
from shared.store.blobs import MAX_MODULE_BYTES


@dataclass(frozen=True, slots=True)
class Sources:
    downloader: Downloader
    oci: OciSource

    @classmethod
    def of(cls, *, allow_private: bool = False, registry_config: Path | None = None) -> Self:
        downloader = Downloader(allow_private)
        return cls(downloader, OciSource(downloader, registry_config))

    async def fetch(self, url: str) -> bytes:
        """Raises SourceError."""
        answer = await self.downloader.get(url, MAX_MODULE_BYTES, {"accept": "application/wasm, */*"})
        if answer.status != 200:
            raise SourceError(f"status {answer.status}")
        return answer.body

    async def pull(self, reference: str, has: Has) -> Pulled:
        """Raises SourceError."""
        return await self.oci.pull(OciReference.parse(reference), has)
