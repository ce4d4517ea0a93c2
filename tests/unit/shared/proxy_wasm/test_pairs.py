"""The serialized header map: what is encoded is decoded again, and any bytes are a map or an error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.proxy_wasm.pairs import PairsError, decode, encode

FIELDS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=20)


def test_the_example_of_the_reference() -> None:
    data = bytes.fromhex("02000000 01000000 01000000 01000000 02000000 6100 3100 6200 323200")
    assert encode([(b"a", b"1"), (b"b", b"22")]) == data
    assert decode(data) == ((b"a", b"1"), (b"b", b"22"))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0"])
def test_three_ways_to_be_empty(data: bytes) -> None:
    assert decode(data) == ()


@given(FIELDS)
def test_a_round_trip(fields: list[tuple[bytes, bytes]]) -> None:
    assert decode(encode(fields)) == tuple(fields)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_map_or_an_error(data: bytes) -> None:
    with contextlib.suppress(PairsError):
        fields = decode(data)
        assert encode(fields) == data or not fields


@given(FIELDS, st.data())
def test_a_changed_byte_never_gives_another_kind_of_failure(fields: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    good = bytearray(encode(fields))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PairsError):
        decode(bytes(good[: data.draw(st.integers(0, len(good)))]))
