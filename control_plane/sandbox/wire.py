"""What the control plane and its sandbox say to each other, over a socket.

The law: a message is a JSON document and, behind it, raw bytes (a module), each with its length before it; a reader never
believes a length beyond its own bounds. JSON, because what comes out of a sandbox must not be able to do anything.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

_LENGTHS = struct.Struct(">II")
# A plugin's configurations, at most some hundred of the size that the Admin API takes at most; log lines are bounded.
MAX_DOCUMENT = 256 * 1024 * 1024
MAX_DATA = 64 * 1024 * 1024

# Exactly so many bytes; raises EOFError at the end.
Read = Callable[[int], bytes]


class WireError(Exception):
    """The other side does not speak this protocol."""


def pack(document: object, data: bytes = b"") -> tuple[bytes, bytes]:
    text = json.dumps(document).encode()
    return _LENGTHS.pack(len(text), len(data)) + text, data


def unpack(read: Read) -> tuple[Any, bytes]:
    """The next message. Raises EOFError, WireError."""
    text_size, data_size = _LENGTHS.unpack(read(_LENGTHS.size))
    if text_size > MAX_DOCUMENT or data_size > MAX_DATA:
        raise WireError(f"a message of {text_size} and {data_size} bytes")
    try:
        document = json.loads(read(text_size))
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from error
    return document, read(data_size)
