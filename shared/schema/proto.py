"""Protocol Buffers definitions that plugins name: `.proto` text, or a FileDescriptorSet in base64, as protoc writes it.

The law: what is no definition is refused when it is written.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from shared.schema.common import Described
from shared.schema.proto_text import ProtoError, check_proto

# APISIX's.
MOST_CHARACTERS = 1_048_576
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def _definition(content: str) -> str:
    compact = "".join(content.split())
    if _BASE64.fullmatch(compact) and _is_descriptor_set(compact):
        return content
    try:
        check_proto(content)
    except ProtoError as error:
        raise PydanticCustomError("proto", "not a Protocol Buffers definition: {why}", {"why": str(error)}) from error
    return content


def _is_descriptor_set(content: str) -> bool:
    """A FileDescriptorSet is a sequence of its first field, each of which has a length."""
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return False
    at = 0
    while at < len(data):
        if data[at] != 0x0A:
            return False
        size, at = _varint(data, at + 1)
        at += size
    return at == len(data) > 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        byte = data[at] if at < len(data) else 0
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
    return value, at


class ProtoSpec(Described):
    content: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_definition)]
