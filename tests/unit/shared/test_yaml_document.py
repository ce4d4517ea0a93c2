"""YAML as JSON documents: what it means, what is refused, and that what is written is read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.schema.document import DocumentError
from shared.yaml_document import decode_yaml, encode_yaml

TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
# Ten times as many values in each line as in the one before.
BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{n}: &{n} [{','.join([f'*{p}'] * 10)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)
)
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(DOCUMENTS)
def test_what_is_written_is_read_back(document: Any) -> None:  # noqa: ANN401 - a document
    assert decode_yaml(encode_yaml({"document": document}).encode()) == {"document": document}


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("", None),
        ("routes:\n  - id: 1\n    uri: /a\n#END\n", {"routes": [{"id": 1, "uri": "/a"}]}),
        ("[on, yes, 1_000, 010, 12:30, 2020-01-01, 0x1f]", ["on", "yes", "1_000", "010", "12:30", "2020-01-01", "0x1f"]),
        ("a: true\nb: ~\nc:\nd: -1.50\ne: '1'", {"a": True, "b": None, "c": None, "d": -1.5, "e": "1"}),
        ("200: ok", {"200": "ok"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ('{"a": [1, {"b": "c"}]}', {"a": [1, {"b": "c"}]}),
    ],
)  # fmt: skip
def test_what_it_means(text: str, document: object) -> None:
    assert decode_yaml(text.encode()) == document


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "duplicate key 'a' at line 2 column 1"),
        ("routes:\n  - id: [", "while parsing a flow node"),
        ("a: !!python/object:os.system {}", "a tag (tag:yaml.org,2002:python/object:os"),
        ("a: !x 3", "a tag (!x), which has no meaning here at line 1 column 4"),
        ("? [1]\n: 2", "a key must be a text at line 1 column 3"),
        ("a: {<<: {b: 1}}", "merge keys (<<) are not of YAML 1.2"),
        ("a: *x", "at line 1 column 4"),
        ("a: &x [*x]", "at line 1 column 8"),
        ("---\na: 1\n---\nb: 1", "a second document at line 4"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        (BOMB, "more than 5000000 values"),
        ("a: 1.0e+999", "number out of range"),
        ("\x01", "characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        decode_yaml(text.encode())
    assert message in str(raised.value)
