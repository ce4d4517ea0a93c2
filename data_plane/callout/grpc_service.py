"""What a plugin may put in place of an upstream's name in a gRPC call: Envoy's `GrpcService`, serialized.

The law: of the message (envoy.config.core.v3) this file reads what says where a call goes and what goes with it; other fields
are skipped, malformed ones refused. Numbers are those of the public definition: GrpcService{envoy_grpc=1{cluster_name=1,
authority=2}, google_grpc=2{target_uri=1, channel_credentials=2{ssl_credentials=1}}, timeout=3{seconds=1, nanos=2},
initial_metadata=5{key=1, value=2, raw_value=3}}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.proxy_wasm.pairs import Pairs

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10


class NotAGrpcService(ValueError):
    """The bytes are none."""


@dataclass(slots=True)
class GrpcService:
    """`target` is a cluster's name or an address, perhaps with a scheme; `seconds` 0 for no timeout."""

    target: bytes = b""
    authority: bytes = b""
    seconds: float = 0.0
    metadata: Pairs = ()


def parse_grpc_service(data: bytes) -> GrpcService:
    """Raises NotAGrpcService."""
    service = GrpcService()
    for number, value in _fields(data):
        if number == 1:
            envoy = _strings(value)
            service.target, service.authority = envoy.get(1, b""), envoy.get(2, b"")
        elif number == 2:
            service.target = _google_target(_strings(value))
        elif number == 3:
            service.seconds = _seconds(value)
        elif number == 5:
            pair = _strings(value)
            service.metadata += ((pair.get(1, b""), pair.get(3) or pair.get(2, b"")),)
    if not service.target:
        raise NotAGrpcService("no target is named")
    return service


def _google_target(google: dict[int, bytes]) -> bytes:
    """gRPC's own names of targets: `HOST:PORT`, `dns:HOST:PORT` or `dns:///HOST:PORT`."""
    address = google.get(1, b"").removeprefix(b"dns:").removeprefix(b"///")
    return b"grpcs://" + address if address and 1 in _strings(google.get(2, b"")) else address


def _seconds(value: bytes | int) -> float:
    parts = {number: part for number, part in _fields(_message(value)) if isinstance(part, int)}
    return parts.get(1, 0) + parts.get(2, 0) / 1e9


def _strings(value: bytes | int) -> dict[int, bytes]:
    return {number: part for number, part in _fields(_message(value)) if isinstance(part, bytes)}


def _message(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise NotAGrpcService("a number where a message is expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise NotAGrpcService(f"wire type {kind}")
        if not number or size > len(data) - at:
            raise NotAGrpcService("a field that does not fit")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for k, byte in enumerate(data[at : at + _MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * k
        if byte < 0x80:
            return value, at + k + 1
    raise NotAGrpcService("an unfinished number")
