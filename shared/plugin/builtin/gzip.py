"""gzip: compressed responses for clients that take them."""

from __future__ import annotations

import zlib
from typing import Annotated

from pydantic import Field

from shared.plugin.builtin.compression import Compression, CompressionConfig, Compressor
from shared.schema.common import MAX_INT, Spec

# zlib's: a gzip header instead of its own around the largest window.
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class BuffersSpec(Spec):
    """Of nginx, which needs them: here a piece is as long as it came."""

    number: Annotated[int, Field(ge=1, le=MAX_INT)] = 32
    size: Annotated[int, Field(ge=1, le=MAX_INT)] = 4096


class GzipConfig(CompressionConfig):
    comp_level: Annotated[int, Field(ge=1, le=9)] = 1
    buffers: BuffersSpec = BuffersSpec()


class GzipCompressor:
    __slots__ = ("_zlib",)

    def __init__(self, level: int) -> None:
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)

    def compress(self, data: bytes, eos: bool) -> bytes:
        out = self._zlib.compress(data) if data else b""
        if eos:
            return out + self._zlib.flush()
        return out + self._zlib.flush(zlib.Z_SYNC_FLUSH) if data else b""


class Gzip(Compression[GzipConfig]):
    name = "gzip"
    priority = 995
    coding = "gzip"
    Config = GzipConfig

    def compressor(self) -> Compressor:
        return GzipCompressor(self.config.comp_level)
