"""YAML as JSON has it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.yaml_text import YamlError, parse_yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: on", {"a": "on"}),
        ("a: yes", {"a": "yes"}),
        ("on: 1", {"on": 1}),
        ("a: true\nb: False\nc: TRUE", {"a": True, "b": False, "c": True}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 0777", {"a": "0777"}),
        ("a: 0x1f", {"a": "0x1f"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: -7\nb: 1.5\nc: 1e3\nd: .5", {"a": -7, "b": 1.5, "c": 1000.0, "d": 0.5}),
        ("a: .inf\nb: .nan", {"a": ".inf", "b": ".nan"}),
        ("a:\nb: ~\nc: null", {"a": None, "b": None, "c": None}),
        ("80: x", {"80": "x"}),
        ('{"127.0.0.1:80": 1}', {"127.0.0.1:80": 1}),
        ("x: &d {a: 1}\ny:\n  <<: *d\n  b: 2", {"x": {"a": 1}, "y": {"a": 1, "b": 2}}),
        ("x: &d {a: 1}\ny:\n  <<: *d\n  a: 2", {"x": {"a": 1}, "y": {"a": 2}}),
        ("", None),
        ("# nothing\n#END\n", None),
    ],
)
def test_what_it_reads(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [", "at line 3 column 1"),
        ("a: 1\n\ta: 2", "line 2"),
        ("a: 1\na: 2", "the key 'a' is written twice at line 2 column 1"),
        ("a: {b: 1, b: 2}", "the key 'b' is written twice at line 1"),
        ("? [1]\n: 2", "a key must be a string at line 1"),
        ("a: !!python/object/apply:os.system [ls]", "python/object"),
        ("a: !!binary aGk=", "has no meaning here at line 1"),
        ("a: !!timestamp 2024-01-01", "has no meaning here"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "another document at line 2"),
        ("a: \x00", "control characters"),
        ("a: !!int x", "x"),
    ],
)
def test_what_it_refuses_with_the_place(text: str, words: str) -> None:
    with pytest.raises(YamlError) as raised:
        parse_yaml(text)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@given(JSON)
def test_what_is_dumped_comes_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == value


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    with suppress(YamlError):
        json.dumps(parse_yaml(text))
