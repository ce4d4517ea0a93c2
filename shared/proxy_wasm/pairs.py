"""The ABI's serialized header maps: count, a (name size, value size) pair for each field, then name NUL value NUL for each.

All integers are 32 bits, little endian (ABI reference, serialization).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_COUNT = struct.Struct("<I")
_SIZES = struct.Struct("<II")

Pairs = tuple[tuple[bytes, bytes], ...]


class PairsError(ValueError):
    """The bytes are no serialized map."""


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    listed = tuple(fields)
    sizes = b"".join(_SIZES.pack(len(name), len(value)) for name, value in listed)
    return _COUNT.pack(len(listed)) + sizes + b"".join(name + b"\0" + value + b"\0" for name, value in listed)


def decode(data: bytes) -> Pairs:
    """Nothing, one zero byte and a zero count are all the empty map. Raises PairsError."""
    if data in (b"", b"\0"):
        return ()
    if len(data) < _COUNT.size:
        raise PairsError(f"{len(data)} bytes, expected a count of {_COUNT.size}")
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size + count * _SIZES.size
    if at > len(data):
        raise PairsError(f"{count} pairs do not fit into {len(data)} bytes")
    fields = []
    for k in range(count):
        name_size, value_size = _SIZES.unpack_from(data, _COUNT.size + k * _SIZES.size)
        name, at = _string(data, at, name_size)
        value, at = _string(data, at, value_size)
        fields.append((name, value))
    if at != len(data):
        raise PairsError(f"{len(data) - at} bytes after the last pair")
    return tuple(fields)


def _string(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end >= len(data) or data[end]:
        raise PairsError(f"no terminated string of {size} bytes at {at}")
    return data[at:end], end + 1
