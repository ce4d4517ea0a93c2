"""Turns a module's start section into an export, so that the host decides when it runs.

The law: the engine runs a start section while it instantiates the module, when the host functions that it may call (a log, an
abort with its message) are not linked yet. Moved behind an export of its own, it runs first of all once everything stands.
"""

from __future__ import annotations

from collections.abc import Container

EXPORT_SECTION, START_SECTION = 7, 8
HEADER_SIZE = 8
NAME = "start section"


def expose_start(module: bytes, taken: Container[str]) -> tuple[bytes, str]:
    """The module and the name of the new export; as it was and an empty name when it has no start section.

    The bytes were read by binary.parse before, so every length fits, and `taken` are its exports' names.
    """
    parts, exports, start = [module[:HEADER_SIZE]], 0, b""
    at = HEADER_SIZE
    while at < len(module):
        size, body = _number(module, at + 1)
        end = body + size
        if module[at] == START_SECTION:
            start = module[body:end]
        else:
            if module[at] == EXPORT_SECTION:
                exports = len(parts)
            parts.append(module[at:end])
        at = end
    if not start or not exports:
        return module, ""
    name = NAME
    while name in taken:
        name += "'"
    parts[exports] = _with_export(parts[exports], name, start)
    return b"".join(parts), name


def _with_export(section: bytes, name: str, function: bytes) -> bytes:
    _, body = _number(section, 1)
    count, rest = _number(section, body)
    text = name.encode()
    content = _leb(count + 1) + section[rest:] + _leb(len(text)) + text + b"\0" + function
    return bytes((EXPORT_SECTION,)) + _leb(len(content)) + content


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
