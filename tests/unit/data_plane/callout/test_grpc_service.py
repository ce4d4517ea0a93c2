"""Envoy's GrpcService, as bytes: checked against the fields that the public definition gives, and against any bytes at all."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from data_plane.callout.grpc_service import GrpcService, NotAGrpcService, parse_grpc_service

_TYPES = {
    "Duration": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Ssl": {},
    "Credentials": {"ssl_credentials": (1, "Ssl")},
    "Envoy": {"cluster_name": (1, "string"), "authority": (2, "string"), "skipped": (4, "Duration")},
    "Google": {"target_uri": (1, "string"), "channel_credentials": (2, "Credentials"), "stat_prefix": (4, "string")},
    "Header": {"key": (1, "string"), "value": (2, "string"), "raw_value": (3, "bytes")},
    "Service": {
        "envoy_grpc": (1, "Envoy"),
        "google_grpc": (2, "Google"),
        "timeout": (3, "Duration"),
        "initial_metadata": (5, "*Header"),
        "retry_policy": (6, "Duration"),
    },
}


def _message_type() -> Any:  # noqa: ANN401 - protobuf has no types
    """The same definition, as protobuf's own library has it."""
    file = descriptor_pb2.FileDescriptorProto(name="service.proto", package="t", syntax="proto3")
    scalars = {"int64": 3, "int32": 5, "string": 9, "bytes": 12}
    for name, fields in _TYPES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            made = message.field.add(name=field, number=number, label=3 if kind.startswith("*") else 1)
            made.type = scalars.get(kind, 11)
            if kind not in scalars:
                made.type_name = f".t.{kind.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Service"))


SERVICE = _message_type()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"envoy_grpc": {"cluster_name": "c"}}, GrpcService(b"c")),
        (
            {
                "envoy_grpc": {"cluster_name": "c", "authority": "a", "skipped": {"seconds": 1}},
                "timeout": {"seconds": 2, "nanos": 5 * 10**8},
            },
            GrpcService(b"c", b"a", 2.5),
        ),
        ({"google_grpc": {"target_uri": "h:1", "stat_prefix": "p"}}, GrpcService(b"h:1")),
        ({"google_grpc": {"target_uri": "dns:h:1"}}, GrpcService(b"h:1")),
        ({"google_grpc": {"target_uri": "dns:///h:1", "channel_credentials": {"ssl_credentials": {}}}}, GrpcService(b"grpcs://h:1")),
        (
            {
                "envoy_grpc": {"cluster_name": "c"},
                "retry_policy": {},
                "initial_metadata": [{"key": "a", "value": "b"}, {"key": "c", "raw_value": b"\xff"}],
            },
            GrpcService(b"c", metadata=((b"a", b"b"), (b"c", b"\xff"))),
        ),
    ],
)  # fmt: skip
def test_what_it_says(fields: dict[str, object], expected: GrpcService) -> None:
    assert parse_grpc_service(SERVICE(**fields).SerializeToString()) == expected


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x02\x0a", b"\x08\x01", b"\x0b", b"\xff" * 11, b"\x02\x00", b"\x0a\x00"])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(NotAGrpcService):
        parse_grpc_service(data)


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: b"\x0a\x03\x0a\x01c" + tail))
def test_any_bytes_are_one_or_refused(data: bytes) -> None:
    try:
        service = parse_grpc_service(data)
    except NotAGrpcService:
        return
    assert service.target
