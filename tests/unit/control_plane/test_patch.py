"""PATCH on documents."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.admin.patch import SubPathError, merge, set_at, split

NAMES = st.sampled_from("abcd")
SCALARS = st.integers() | st.text(max_size=3) | st.booleans()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
PATCHES = st.recursive(SCALARS | st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        # The examples of RFC 7396, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # A node of a map is deleted by null, and a map becomes a list as a whole.
        ({"nodes": {"a:1": 1, "b:1": 1}}, {"nodes": {"a:1": None}}, {"nodes": {"b:1": 1}}),
        ({"nodes": {"a:1": 1}}, {"nodes": [{"host": "b"}]}, {"nodes": [{"host": "b"}]}),
    ],
)
def test_merge(target: object, patch: object, expected: object) -> None:
    assert merge(target, patch) == expected


@given(DOCUMENTS, PATCHES)
def test_merging_twice_is_merging_once(target: dict[str, Any], patch: object) -> None:
    before = copy.deepcopy(target)
    once = merge(target, patch)

    assert merge(once, patch) == once
    assert target == before


@given(DOCUMENTS)
def test_an_empty_patch_changes_nothing(target: dict[str, Any]) -> None:
    assert merge(target, {}) == target


@given(DOCUMENTS, st.dictionaries(NAMES, SCALARS | st.none(), max_size=4))
def test_a_flat_patch_sets_deletes_and_leaves_the_rest(target: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge(target, patch)

    assert isinstance(merged, dict)
    for name in "abcd":
        expected = patch[name] if name in patch else target.get(name)
        assert merged.get(name) == expected
        assert (name in merged) == (expected is not None)


@pytest.mark.parametrize(
    ("target", "path", "value", "expected"),
    [
        ({"a": 1}, "", {"b": 2}, {"b": 2}),
        ({"a": 1}, "/", [], []),
        ({"a": 1}, "b", 2, {"a": 1, "b": 2}),
        ({"a": {"x": 1, "y": 2}}, "a", {"x": 3}, {"a": {"x": 3}}),
        ({"a": {"b": 1}}, "a/b", [1], {"a": {"b": [1]}}),
        ({}, "a/b/c", 1, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, "a//b/", None, {"a": {"c": 2}}),
    ],
)
def test_set_at(target: object, path: str, value: object, expected: object) -> None:
    before = copy.deepcopy(target)

    assert set_at(target, split(path), value) == expected
    assert target == before


@pytest.mark.parametrize(("target", "path"), [({"a": 1}, "a/b"), ({"a": [1]}, "a/0"), ({"a": {"b": "x"}}, "a/b/c/d")])
def test_a_path_through_something_that_is_no_object(target: object, path: str) -> None:
    with pytest.raises(SubPathError):
        set_at(target, split(path), 1)


@given(DOCUMENTS, st.lists(NAMES, min_size=1, max_size=4), SCALARS)
def test_what_was_set_is_there(target: dict[str, Any], path: list[str], value: object) -> None:
    try:
        place: Any = set_at(target, path, value)
    except SubPathError:
        return
    for name in path:
        place = place[name]
    assert place == value
