"""The plugin inside a layer of an image: the layer itself, or the file `plugin.wasm` of an archive.

The law: whatever the bytes are, no more than the limit is unpacked, and nothing is written anywhere.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib

from control_plane.sources.failure import SourceError
from shared.store.blobs import MAX_MODULE_BYTES

# The old artefact's and the CNCF's.
MODULES = ("application/vnd.module.wasm.content.layer.v1+wasm", "application/wasm")
ARCHIVES = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
)
PLUGIN = "plugin.wasm"
# Unpacked, headers and other files included.
MAX_UNPACKED = 2 * MAX_MODULE_BYTES
_GZIP = b"\x1f\x8b"


def plugin_of(media_type: str, data: bytes) -> bytes:
    """Raises SourceError. Blocking."""
    module = data if media_type in MODULES else _unpacked(data)
    if len(module) > MAX_MODULE_BYTES:
        raise SourceError(f"the module in the image has {len(module)} bytes, more than the maximum of {MAX_MODULE_BYTES}")
    return module


def _unpacked(data: bytes) -> bytes:
    packed = io.BytesIO(data)
    stream = _Bounded(gzip.GzipFile(fileobj=packed) if data.startswith(_GZIP) else packed)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            return _plugin(archive)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise SourceError(f"the image's layer cannot be unpacked: {error}") from error


def _plugin(archive: tarfile.TarFile) -> bytes:
    names = []
    for member in archive:
        name = member.name.removeprefix("./")
        if name == PLUGIN and member.isreg():
            file = archive.extractfile(member)
            assert file is not None
            return file.read()
        names.append(name)
    raise SourceError(f"the image's last layer has no file {PLUGIN}; it has {', '.join(names)[:200] or 'none at all'}")


class _Bounded(io.RawIOBase):
    """Reads no more than MAX_UNPACKED bytes of another stream."""

    def __init__(self, stream: gzip.GzipFile | io.BytesIO) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise SourceError(f"the image's layer has more than {MAX_UNPACKED} bytes unpacked")
        return piece
