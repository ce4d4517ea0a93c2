"""A module's sections as bytes, for those that rewrite them.

The law: the bytes were read by binary.parse before, so every length fits.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from shared.proxy_wasm.instructions import number

HEADER_SIZE = 8


def sections(module: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each."""
    at = HEADER_SIZE
    while at < len(module):
        kind = module[at]
        size, body = number(module, at + 1)
        at = body + size
        yield kind, module[body:at]


def joined(kind: int, content: bytes) -> bytes:
    return bytes((kind,)) + leb(len(content)) + content


def with_export(content: bytes, name: str, thing: bytes) -> bytes:
    """The content of an export section with one more; `thing` is its kind and index."""
    count, rest = number(content, 0)
    text = name.encode()
    return leb(count + 1) + content[rest:] + leb(len(text)) + text + thing


def leb(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def free_name(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "'"
    return name
