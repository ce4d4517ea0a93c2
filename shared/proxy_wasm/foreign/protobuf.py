"""As much of protobuf's wire format as the arguments of Envoy's foreign functions need: a flat message of numbers and bytes.

Source: Protocol Buffers, "Encoding".
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAST_SHIFT = 63


class ProtobufError(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> dict[int, int | bytes]:
    """The last value of each field, by its number. Raises ProtobufError."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ProtobufError("a field has the number 0")
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32, _BYTES):
            size, at = _varint(data, at) if kind == _BYTES else (8 if kind == _FIXED64 else 4, at)
            if size > len(data) - at:
                raise ProtobufError(f"field {number} is longer than the message")
            value, at = data[at : at + size], at + size
        else:
            raise ProtobufError(f"field {number} has the unknown kind {kind}")
        found[number] = value
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift <= _LAST_SHIFT:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ProtobufError("a number has no end")


def text(message: dict[int, int | bytes], number: int) -> bytes:
    """A field of bytes; empty when it is absent. Raises ProtobufError."""
    value = message.get(number, b"")
    if not isinstance(value, bytes):
        raise ProtobufError(f"field {number} is no string")
    return value


def flag(message: dict[int, int | bytes], number: int) -> int:
    """A field of a number; 0 when it is absent. Raises ProtobufError."""
    value = message.get(number, 0)
    if not isinstance(value, int):
        raise ProtobufError(f"field {number} is no number")
    return value


def encode(message: dict[int, int | bytes]) -> bytes:
    """Fields in the order of their numbers; what is 0 or empty is left out."""
    out = bytearray()
    for number, value in sorted(message.items()):
        if not value:
            continue
        if isinstance(value, int):
            out += _encoded(number << 3 | _VARINT) + _encoded(value)
        else:
            out += _encoded(number << 3 | _BYTES) + _encoded(len(value)) + value
    return bytes(out)


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
