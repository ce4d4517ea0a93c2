"""What is refused before any engine sees it."""

from __future__ import annotations

import pytest

from shared.store.contract import Delete, Expect, Put, TooLarge
from shared.store.request import MAX_OPERATIONS, MAX_REQUEST_BYTES, check_transaction


def test_a_usual_transaction_passes() -> None:
    check_transaction((Expect("/a", 1), Expect("/b", 0)), (Put("/a", b"1"), Delete("/b")))
    check_transaction((), ())


def test_all_values_of_a_transaction_count_together() -> None:
    half = b"x" * (MAX_REQUEST_BYTES // 2)
    check_transaction((), (Put("/a", half),))
    with pytest.raises(TooLarge, match="over the limit"):
        check_transaction((), (Put("/a", half), Put("/b", half)))


def test_conditions_count_too() -> None:
    with pytest.raises(TooLarge, match=f"up to {MAX_OPERATIONS}"):
        check_transaction([Expect(f"/{number}", 0) for number in range(MAX_OPERATIONS + 1)], ())


def test_keys_are_counted_as_bytes() -> None:
    with pytest.raises(TooLarge, match="over the limit"):
        check_transaction((), (Delete("ü" * (MAX_REQUEST_BYTES // 2)),))
