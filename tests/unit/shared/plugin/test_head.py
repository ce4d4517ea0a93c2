"""An open head under changes: always valid, and what was set is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plugin.head import Head, name_problem

RAW = b"GET /p HTTP/1.1\r\nHost: t\r\nAccept: a\r\nX-One:  1 \r\naccept: b\r\n"


def test_names_are_compared_without_case() -> None:
    head = Head(RAW)
    assert head.header("ACCEPT") == "a"
    assert head.header_values("Accept") == ["a", "b"]
    assert head.header("x-one") == "1"
    assert head.header("absent") is None
    # Neither a part of a name nor of a value is a name.
    assert Head(b"GET / HTTP/1.1\r\nX-Host: Host: t\r\n").header("host") is None


def test_set_takes_the_place_of_the_first() -> None:
    head = Head(RAW)
    head.set_header("Accept", "c")
    assert head.raw == b"GET /p HTTP/1.1\r\nHost: t\r\nAccept: c\r\nX-One:  1 \r\n"
    head.set_header("X-New", "n")
    assert head.headers()[-1] == ("X-New", "n")
    head.set_header("Accept", "")
    assert head.header("accept") is None


def test_remove_takes_all() -> None:
    head = Head(RAW)
    head.remove_header("accept")
    assert head.raw == b"GET /p HTTP/1.1\r\nHost: t\r\nX-One:  1 \r\n"
    head.remove_header("accept")
    assert head.headers() == [("Host", "t"), ("X-One", "1")]


@pytest.mark.parametrize("name", ["Content-Length", "transfer_encoding", "Connection", "te", "a b", "", "a:b", "é"])
def test_a_name_that_frames_or_is_none_is_refused(name: str) -> None:
    assert name_problem(name) is not None
    with pytest.raises(ValueError, match="header"):
        Head(RAW).set_header(name, "1")
    with pytest.raises(ValueError, match="header"):
        Head(RAW).add_header(name, "1")


def test_a_value_cannot_end_its_line() -> None:
    head = Head(RAW)
    head.set_header("X-One", "a\r\nEvil: 1\x00\t")
    assert head.raw.endswith(b"X-One: a%0D%0AEvil: 1%00\r\naccept: b\r\n")


NAMES = st.sampled_from(["a", "A", "accept", "x-b", "X-B", "host2"])
VALUES = st.text(max_size=12)
EDITS = st.lists(st.tuples(st.sampled_from(["set", "add", "remove"]), NAMES, VALUES), max_size=12)


@given(EDITS)
def test_any_changes_leave_what_a_list_of_fields_would_have(edits: list[tuple[str, str, str]]) -> None:
    head = Head(RAW)
    for kind, name, value in edits:
        before = [(key.lower(), found) for key, found in head.headers()]
        others = [field for field in before if field[0] != name.lower()]
        if kind == "remove":
            head.remove_header(name)
            expected = others
        elif kind == "set":
            head.set_header(name, value)
            expected = others
        else:
            head.add_header(name, value)
            expected = before
        after = [(key.lower(), found) for key, found in head.headers()]
        if kind == "set":
            assert [field for field in after if field[0] != name.lower()] == expected
            assert len(head.header_values(name)) <= 1
        else:
            assert after[: len(expected)] == expected
        assert head.raw.startswith(b"GET /p HTTP/1.1\r\n")
        assert head.raw.endswith(b"\r\n")
        assert all(b":" in line for line in head.raw.split(b"\r\n")[1:-1])
