"""The gRPC protocol over HTTP/2 (its PROTOCOL-HTTP2): the request's fields, the frames of messages, the status at the end.

The law: messages go and come uncompressed, so nothing else is offered; a message is handed on when it is whole, and one that is
larger than the limit is refused by its prefix.
"""

from __future__ import annotations

import re
import struct
from urllib.parse import unquote_to_bytes

from shared.proxy_wasm.pairs import Pairs

_PREFIX = struct.Struct(">BI")
_NAME = re.compile(rb"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*")
_KEY = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[\x20-\x7e]*")
_OF_PROTOCOL = frozenset({b"te", b"content-type", b"connection", b"transfer-encoding", b"host", b"content-length"})

# Statuses of gRPC that the gateway itself gives.
CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 1, 2, 4, 8, 13, 14
# Of an answer that is no gRPC: gRPC's http-grpc-status-mapping.
_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_LAST_STATUS = 16
# grpc-timeout has at most 8 digits.
_MOST_MILLISECONDS = 99_999_999


class BadGrpcCall(ValueError):
    """The call cannot be made as the plugin wrote it."""


class BadFrame(ValueError):
    """What came is no message; `status` is what the call ends with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def request_fields(scheme: bytes, service: bytes, method: bytes, seconds: float, metadata: Pairs) -> list[tuple[bytes, bytes]]:
    """All but `:authority`. Raises BadGrpcCall."""
    if _NAME.fullmatch(service) is None or _NAME.fullmatch(method) is None:
        raise BadGrpcCall(f"service {service!r} or method {method!r} cannot be part of a path")
    fields = [
        *((b":method", b"POST"), (b":scheme", scheme), (b":path", b"/%b/%b" % (service, method))),
        *((b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"user-agent", b"waspgate")),
    ]
    milliseconds = round(seconds * 1000)
    if milliseconds:
        timeout = b"%dm" % milliseconds if milliseconds <= _MOST_MILLISECONDS else b"%dS" % (milliseconds // 1000)
        fields.append((b"grpc-timeout", timeout))
    for name, value in metadata:
        key = name.lower()
        if _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None:
            raise BadGrpcCall(f"metadata {name!r} is not what gRPC allows")
        if key not in _OF_PROTOCOL and not key.startswith(b"grpc-"):
            fields.append((key, value))
    return fields


def frame(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message)) + message


class Deframer:
    """One direction of one stream."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole message. Raises BadFrame."""
        buffer = self._buffer
        if len(buffer) < _PREFIX.size:
            return None
        compressed, size = _PREFIX.unpack_from(buffer)
        if compressed:
            raise BadFrame(INTERNAL, "a compressed message, which was not asked for")
        if size > self._limit:
            raise BadFrame(RESOURCE_EXHAUSTED, f"a message of {size} bytes, more than the plugin holds")
        if len(buffer) < _PREFIX.size + size:
            return None
        message = bytes(buffer[_PREFIX.size : _PREFIX.size + size])
        del buffer[: _PREFIX.size + size]
        return message

    def is_empty(self) -> bool:
        return not self._buffer


def refused(fields: Pairs) -> tuple[int, bytes] | None:
    """The status of a response that is not gRPC's, None of one that is."""
    found = dict(fields)
    status, content_type = found.get(b":status", b""), found.get(b"content-type", b"")
    if status != b"200":
        return _OF_HTTP.get(int(status), UNKNOWN), b"HTTP status " + status
    if not content_type.startswith(b"application/grpc"):
        return UNKNOWN, b"content type " + content_type
    return None


def final_status(fields: Pairs) -> tuple[int, bytes]:
    """(status, message) of the fields that end a call."""
    found = dict(fields)
    status = found.get(b"grpc-status", b"")
    if not status.isdigit() or len(status) > 2:
        return UNKNOWN, b"no status"
    number = int(status)
    return number if number <= _LAST_STATUS else UNKNOWN, unquote_to_bytes(found.get(b"grpc-message", b""))
