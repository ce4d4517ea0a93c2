"""brotli: as gzip, in the coding that packs text tighter; the package `brotli` is an extra."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.plugin.builtin.compression import Compression, CompressionConfig, Compressor
from shared.plugin.fields import refused

try:
    import brotli
except ImportError:
    brotli = None


def _a_size(value: int) -> int:
    """0: what suits the level."""
    if 0 < value < 16:
        raise refused(f"expected 0 or at least 16, got {value}")
    return value


class BrotliConfig(CompressionConfig):
    """`lgwin` and `lgblock` are logarithms of sizes in bytes; mode 0 is any data, 1 text, 2 fonts."""

    comp_level: Annotated[int, Field(ge=0, le=11)] = 6
    mode: Annotated[int, Field(ge=0, le=2)] = 0
    lgwin: Annotated[int, Field(ge=10, le=24)] = 19
    lgblock: Annotated[int, Field(ge=0, le=24), AfterValidator(_a_size)] = 0


class BrotliCompressor:
    __slots__ = ("_brotli",)

    def __init__(self, config: BrotliConfig) -> None:
        self._brotli = brotli.Compressor(
            mode=config.mode, quality=config.comp_level, lgwin=config.lgwin, lgblock=config.lgblock
        )

    def compress(self, data: bytes, eos: bool) -> bytes:
        out: bytes = self._brotli.process(data) if data else b""
        if eos:
            return out + bytes(self._brotli.finish())
        return out + bytes(self._brotli.flush()) if data else b""


class Brotli(Compression[BrotliConfig]):
    name = "brotli"
    # Before gzip, which then finds the response compressed.
    priority = 996
    coding = "br"
    Config = BrotliConfig

    def __init__(self, config: BrotliConfig, metadata: object = None) -> None:
        super().__init__(config)
        if brotli is None:
            raise ValueError("the package brotli is not installed: pip install 'waspgate[brotli]'")

    def compressor(self) -> Compressor:
        return BrotliCompressor(self.config)
