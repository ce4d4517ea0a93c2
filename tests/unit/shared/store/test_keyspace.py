"""Prefixes as ranges of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.store.keyspace import decode_key, encode_key, prefix_range


@given(st.binary(min_size=1))
def test_any_bytes_survive_as_text(key: bytes) -> None:
    assert encode_key(decode_key(key)) == key


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_a_range_holds_its_prefix_and_nothing_else(prefix: bytes, key: bytes) -> None:
    start, end = prefix_range(decode_key(prefix))
    for candidate in (key, prefix + key):
        inside = candidate >= start and (end is None or candidate < end)
        assert inside == candidate.startswith(prefix)
