"""The headers of the frames that a peer sends, seen before the protocol's own machine gets the bytes.

The law: no payload is kept. What is too large, or too much of what brings nothing, is refused by its nine-byte header, so it
costs neither memory nor decoding.
"""

from __future__ import annotations

import struct

from h2.errors import ErrorCodes

from data_plane.h2.abuse import Patience
from data_plane.h2.limits import CONTINUATIONS, FIELD_BLOCK_BYTES, FRAME_BYTES

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4

_HEADER_BYTES = 9
# The length's three bytes, type, flags, stream.
_HEADER = struct.Struct(">HBBBL")


class Refused(Exception):
    """The connection ends with this code."""

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class FrameScanner:
    """Of one direction of one connection. `opening` bytes come before the first frame.

    `frames` counts those that do not go on with a field block. `in_block`: one has begun and not ended.
    """

    __slots__ = (
        "_block_bytes",
        "_continuations",
        "_head",
        "_kind",
        "_length",
        "_patience",
        "_rest",
        "frames",
        "in_block",
        "opening",
    )

    def __init__(self, patience: Patience, opening: int) -> None:
        self._patience = patience
        self._head = b""
        # Bytes of the current payload, and of those the ones that are still to come.
        self._length = 0
        self._rest = 0
        self._kind = DATA
        self._block_bytes = 0
        self._continuations = 0
        self.in_block = False
        self.opening = opening
        self.frames = 0

    @property
    def unfinished(self) -> bool:
        """Something other than a body has begun, and the rest of it is due."""
        return self.in_block or bool(self._head) or (self._rest > 0 and self._kind != DATA) or not self.frames

    @property
    def current(self) -> int:
        """The number of the frame that is being received, or was."""
        return self.frames + bool(self._head)

    @property
    def held(self) -> int:
        """Bytes that the protocol's machine holds of a frame, or of a field block in several, whose rest has not come."""
        if self.in_block or (self._rest and self._kind in (HEADERS, CONTINUATION)):
            return self._block_bytes - self._rest
        return self._length - self._rest if self._rest else 0

    def feed(self, data: bytes, now: float) -> None:
        """Raises Refused."""
        position = 0
        size = len(data)
        if self.opening:
            position = min(self.opening, size)
            self.opening -= position
        while position < size:
            if self._rest:
                step = min(self._rest, size - position)
                self._rest -= step
                position += step
                continue
            wanted = _HEADER_BYTES - len(self._head)
            self._head += data[position : position + wanted]
            position += wanted
            if len(self._head) == _HEADER_BYTES:
                self._frame(now)

    def _frame(self, now: float) -> None:
        high, low, kind, flags, _ = _HEADER.unpack(self._head)
        self._head = b""
        length = high << 8 | low
        if not self.frames and kind != SETTINGS:
            raise Refused(ErrorCodes.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if length > FRAME_BYTES:
            raise Refused(ErrorCodes.FRAME_SIZE_ERROR, "a frame above the maximum")
        self._rest = self._length = length
        self._kind = kind
        if kind != CONTINUATION:
            self.frames += 1
        if kind in (HEADERS, PUSH_PROMISE, CONTINUATION):
            self._block(kind, flags, length)
        else:
            self._patience.spend(kind, flags, length, now)

    def _block(self, kind: int, flags: int, length: int) -> None:
        if kind == CONTINUATION:
            self._continuations += 1
            self._block_bytes += length
        else:
            self._continuations = 0
            self._block_bytes = length
        self.in_block = not flags & END_HEADERS
        if self._continuations > CONTINUATIONS or self._block_bytes > FIELD_BLOCK_BYTES:
            raise Refused(ErrorCodes.ENHANCE_YOUR_CALM, "a field block without end")
