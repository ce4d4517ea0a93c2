"""Keys as bytes: their encoding, and the range that a prefix stands for.

The law: any bytes that another program wrote as a key come out as text and go back as the same bytes, and byte order
is key order in both engines.
"""

from __future__ import annotations


def encode_key(key: str) -> bytes:
    if not key:
        raise ValueError("a key must not be empty")
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def prefix_range(prefix: str) -> tuple[bytes, bytes | None]:
    """First key of the prefix and first key after it; None when nothing can come after."""
    start = prefix.encode("utf-8", "surrogateescape")
    bare = start.rstrip(b"\xff")
    if not bare:
        return start, None
    return start, bare[:-1] + bytes((bare[-1] + 1,))
