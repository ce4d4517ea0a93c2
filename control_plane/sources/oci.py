"""Modules out of OCI registries: the distribution protocol, as far as a pull needs it.

The law: every byte is checked against a digest that was named before it came: the reference's for the manifest, the manifest's
for the layer. A tag is looked up anew by each pull; what was pulled says by which digest it will be found again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from control_plane.sources.download import Downloader
from control_plane.sources.failure import SourceError
from control_plane.sources.layers import ARCHIVES, MODULES, plugin_of
from control_plane.sources.registry import Registry
from shared.schema.oci_reference import OciReference
from shared.store.blobs import MAX_MODULE_BYTES

MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
# The specification's own limit.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
# A layer that holds a module and little else.
MAX_LAYER_BYTES = 2 * MAX_MODULE_BYTES

# Whether the store has a module with this sha256.
Has = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Pulled:
    """`reference` has the digest of the manifest that was found. `data` is None when the store has the module already."""

    reference: OciReference
    sha256: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Layer:
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class OciSource:
    """`registry_config` is a file as Docker's config.json, with the credentials of registries that want some."""

    downloader: Downloader
    registry_config: Path | None = None

    async def pull(self, reference: OciReference, has: Has) -> Pulled:
        """Raises SourceError."""
        registry = await Registry.open(self.downloader, reference, self.registry_config)
        digest, manifest = await self._manifest(registry, reference.wanted)
        found = replace(reference, digest=digest)
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            _, manifest = await self._manifest(registry, _for_wasm(manifest))
        layer = _layer(manifest)
        known = layer.digest.removeprefix("sha256:")
        if layer.media_type in MODULES and await has(known):
            return Pulled(found, known, None)
        data = _checked(layer.digest, await registry.get(f"blobs/{layer.digest}", MAX_LAYER_BYTES), "layer")
        module = await asyncio.to_thread(plugin_of, layer.media_type, data)
        return Pulled(found, hashlib.sha256(module).hexdigest(), module)

    async def _manifest(self, registry: Registry, wanted: str) -> tuple[str, dict[str, Any]]:
        """The digest and the document."""
        data = await registry.get(f"manifests/{wanted}", MAX_MANIFEST_BYTES, ", ".join((*MANIFESTS, *INDEXES)))
        if wanted.startswith("sha256:"):
            _checked(wanted, data, "manifest")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise SourceError("the registry's manifest is not JSON") from None
        if not isinstance(document, dict):
            raise SourceError("the registry's manifest is not an object")
        return f"sha256:{hashlib.sha256(data).hexdigest()}", document


def _checked(digest: str, data: bytes, what: str) -> bytes:
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise SourceError(f"the {what} that the registry sent has the digest {found}, expected {digest}")
    return data


def _for_wasm(index: dict[str, Any]) -> str:
    """The digest of the manifest for Wasm, or of the only one."""
    manifests = [entry for entry in _list(index, "manifests") if _is_digest(entry.get("digest"))]
    for_wasm = [entry for entry in manifests if _platform(entry).get("architecture") in ("wasm", "wasm32")]
    chosen = for_wasm or manifests
    if len(chosen) != 1:
        names = ", ".join("/".join(str(_platform(entry).get(part)) for part in ("os", "architecture")) for entry in chosen)
        raise SourceError(f"the image has {len(chosen)} manifests ({names[:200] or 'none'}), expected one, or one for wasm")
    return str(chosen[0]["digest"])


def _layer(manifest: dict[str, Any]) -> Layer:
    """The layer with the module: a module itself, or else the last archive, which has the last word about a file."""
    layers = [
        Layer(str(entry.get("mediaType")), str(entry["digest"]))
        for entry in _list(manifest, "layers")
        if _is_digest(entry.get("digest"))
    ]
    modules = [layer for layer in layers if layer.media_type in MODULES]
    archives = [layer for layer in layers if layer.media_type in ARCHIVES]
    if len(modules) == 1 or (archives and not modules):
        return (modules or archives)[-1]
    types = ", ".join(layer.media_type for layer in layers) or "none"
    raise SourceError(f"the image has {len(modules)} Wasm layers, expected one; its layers: {types[:500]}")


def _list(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _platform(entry: dict[str, Any]) -> dict[str, Any]:
    platform = entry.get("platform")
    return platform if isinstance(platform, dict) else {}


def _is_digest(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith("sha256:"):
        return False
    digits = value.removeprefix("sha256:")
    return len(digits) == 64 and set(digits) <= set("0123456789abcdef")
