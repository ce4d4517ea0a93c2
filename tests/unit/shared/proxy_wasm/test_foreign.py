"""Foreign functions on Python's side: their arguments' format, and what packages register."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.foreign import protobuf, registry

NUMBERS = st.integers(1, (1 << 29) - 1)
VALUES = st.integers(1, (1 << 64) - 1) | st.binary(min_size=1)


@given(st.dictionaries(NUMBERS, VALUES, max_size=8))
def test_what_is_encoded_is_read_again(message: dict[int, int | bytes]) -> None:
    assert protobuf.fields(protobuf.encode(message)) == message


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = protobuf.fields(data)
    except protobuf.ProtobufError:
        return
    assert all(number > 0 for number in message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", {}),
        (bytes.fromhex("0a03616263"), {1: b"abc"}),
        (bytes.fromhex("109601"), {2: 150}),
        (bytes.fromhex("1001 1002"), {2: 2}),
        (bytes.fromhex("0d01020304"), {1: b"\1\2\3\4"}),
        (bytes.fromhex("090102030405060708"), {1: b"\1\2\3\4\5\6\7\10"}),
        (bytes.fromhex("10ffffffffffffffffff01"), {2: (1 << 64) - 1}),
    ],
)
def test_messages(data: bytes, message: dict[int, int | bytes]) -> None:
    assert protobuf.fields(data) == message


@pytest.mark.parametrize("data", ["0a", "0a05", "0a0561", "10", "1080", "00", "0b", "0c", "0d010203", "10" + "ff" * 11])
def test_broken_messages(data: str) -> None:
    with pytest.raises(protobuf.ProtobufError):
        protobuf.fields(bytes.fromhex(data))


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(protobuf.ProtobufError):
        protobuf.text({1: 5}, 1)
    with pytest.raises(protobuf.ProtobufError):
        protobuf.flag({1: b"x"}, 1)
    assert (protobuf.text({}, 1), protobuf.flag({}, 1)) == (b"", 0)


def installed(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> dict[str, registry.ForeignFunction]:
    points = EntryPoints([EntryPoint(name, value, registry.ENTRY_POINTS)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    return registry.installed()


def test_a_package_registers_a_function_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = installed(monkeypatch, "shorter", "shared.proxy_wasm.foreign.envoy:compress")
    assert registry.ForeignFunctions(functions).get(b"shorter") is functions["shorter"]


def test_what_is_registered_goes_before_envoy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = installed(monkeypatch, "compress", "shared.proxy_wasm.foreign.envoy:uncompress")
    assert registry.ForeignFunctions(functions).get(b"compress") is functions["compress"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [("no_such_package:f", "cannot be loaded"), ("shared.proxy_wasm.foreign.envoy:FUNCTIONS", "is no function")],
)
def test_an_entry_point_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as failure:
        installed(monkeypatch, "broken", value)
    assert "broken" in str(failure.value)
    assert value in str(failure.value)
