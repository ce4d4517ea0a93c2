"""Where a function's code has to look up: behind every loop's head, and at its beginning if it calls functions.

The law: whatever goes on for ever passes one of these places again and again; straight-line code, and a function that calls
nothing, end by themselves. The engine has validated the bytes before; an instruction that this table does not know is refused,
never skipped. (WebAssembly 2.0, section 5.4, with tail calls, multiple memories and relaxed SIMD.)
"""

from __future__ import annotations

from typing import Final

from shared.proxy_wasm.binary import UnknownInstruction

# What stands behind an opcode. A block's type and a heap type are signed numbers, as long as their bytes go on.
_NOTHING: Final = 0
_NUMBER: Final = 1
_NUMBERS: Final = 2
_MEMORY: Final = 3
_FOUR_BYTES: Final = 4
_EIGHT_BYTES: Final = 5
_LABELS: Final = 6
_TYPES: Final = 7
_BULK: Final = 8
_VECTOR: Final = 9
_LOOP: Final = 10
_CALL: Final = 11
_INDIRECT_CALL: Final = 12
_UNKNOWN: Final = 13

# First and last opcode.
_RANGES: Final = (
    (0x00, 0x01, _NOTHING),
    (0x02, 0x02, _NUMBER),
    (0x03, 0x03, _LOOP),
    (0x04, 0x04, _NUMBER),
    (0x05, 0x05, _NOTHING),
    (0x0B, 0x0B, _NOTHING),
    (0x0C, 0x0D, _NUMBER),
    (0x0E, 0x0E, _LABELS),
    (0x0F, 0x0F, _NOTHING),
    (0x10, 0x10, _CALL),
    (0x11, 0x11, _INDIRECT_CALL),
    (0x12, 0x12, _CALL),
    (0x13, 0x13, _INDIRECT_CALL),
    (0x1A, 0x1B, _NOTHING),
    (0x1C, 0x1C, _TYPES),
    (0x20, 0x26, _NUMBER),
    (0x28, 0x3E, _MEMORY),
    (0x3F, 0x42, _NUMBER),
    (0x43, 0x43, _FOUR_BYTES),
    (0x44, 0x44, _EIGHT_BYTES),
    (0x45, 0xC4, _NOTHING),
    (0xD0, 0xD0, _NUMBER),
    (0xD1, 0xD1, _NOTHING),
    (0xD2, 0xD2, _NUMBER),
    (0xFC, 0xFC, _BULK),
    (0xFD, 0xFD, _VECTOR),
)


def _kinds() -> bytes:
    kinds = bytearray((_UNKNOWN,)) * 256
    for first, last, kind in _RANGES:
        for opcode in range(first, last + 1):
            kinds[opcode] = kind
    return bytes(kinds)


_KINDS: Final = _kinds()
# How many numbers stand behind each of the bulk operations: conversions that do not trap, then memories and tables.
_BULK_NUMBERS: Final = b"\0\0\0\0\0\0\0\0\2\1\2\1\2\1\2\1\1\1"
_LAST_VECTOR: Final = 0x113
# Set in a memory argument that says which memory.
_NAMES_MEMORY: Final = 0x40


def places(data: bytes, at: int, end: int) -> tuple[list[int], bool]:
    """Of the instructions data[at:end], which the engine has validated: the places behind each `loop`, and whether there is a
    call. Raises UnknownInstruction."""
    found: list[int] = []
    calls = False
    kinds = _KINDS
    while at < end:
        opcode = data[at]
        kind = kinds[opcode]
        at += 1
        if kind == _NOTHING:
            continue
        if kind == _NUMBER:
            while data[at] >= 0x80:
                at += 1
            at += 1
        elif kind == _MEMORY:
            at = _behind_memory(data, at)
        elif kind == _LOOP:
            at = _behind(data, at)
            found.append(at)
        elif kind == _CALL:
            calls = True
            at = _behind(data, at)
        elif kind == _INDIRECT_CALL:
            calls = True
            at = _behind(data, _behind(data, at))
        else:
            at = _behind_rare(data, at, kind)
    return found, calls


def _behind(data: bytes, at: int) -> int:
    """Past one number."""
    while data[at] >= 0x80:
        at += 1
    return at + 1


def _behind_memory(data: bytes, at: int) -> int:
    """Past alignment (with the flag that a memory is named), perhaps a memory, and an offset."""
    names_memory = data[at] & _NAMES_MEMORY
    at = _behind(data, at)
    if names_memory:
        at = _behind(data, at)
    return _behind(data, at)


def _behind_rare(data: bytes, at: int, kind: int) -> int:
    if kind == _FOUR_BYTES:
        return at + 4
    if kind == _EIGHT_BYTES:
        return at + 8
    if kind == _LABELS:
        return _behind_numbers(data, at, 1)
    if kind == _TYPES:
        return _behind_numbers(data, at, 0)
    if kind == _BULK:
        return _behind_bulk(data, at)
    if kind == _VECTOR:
        return _behind_vector(data, at)
    raise UnknownInstruction(f"the instruction 0x{data[at - 1]:02x} at byte {at - 1} is not supported")


def _behind_numbers(data: bytes, at: int, more: int) -> int:
    """Past a count and so many numbers, and `more`."""
    count, at = number(data, at)
    for _ in range(count + more):
        at = _behind(data, at)
    return at


def _behind_bulk(data: bytes, at: int) -> int:
    start = at
    operation, at = number(data, at)
    if operation >= len(_BULK_NUMBERS):
        raise UnknownInstruction(f"the instruction 0xfc 0x{operation:02x} at byte {start - 1} is not supported")
    for _ in range(_BULK_NUMBERS[operation]):
        at = _behind(data, at)
    return at


def _behind_vector(data: bytes, at: int) -> int:
    start = at
    operation, at = number(data, at)
    if operation > _LAST_VECTOR:
        raise UnknownInstruction(f"the instruction 0xfd 0x{operation:02x} at byte {start - 1} is not supported")
    if operation <= 11 or 92 <= operation <= 93:
        return _behind_memory(data, at)
    if operation <= 13:
        # A constant, and the lanes of a shuffle.
        return at + 16
    if 21 <= operation <= 34:
        return at + 1
    if 84 <= operation <= 91:
        return _behind_memory(data, at) + 1
    return at


def number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number and where it ends."""
    value = 0
    shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
