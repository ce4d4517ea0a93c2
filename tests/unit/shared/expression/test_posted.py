"""Variables out of a request's body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.expression.language import compile_expression
from shared.expression.request import RequestVariables

FORM, JSON = b"application/x-www-form-urlencoded", b"application/json; charset=utf-8"
MULTIPART = b'multipart/form-data; boundary="X y"'
PARTS = (
    b'preamble\r\n--X y\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--X y\r\n'
    b'Content-Disposition: form-data; filename="f"; name="b"\r\nContent-Type: x/y\r\n\r\ntwo\r\nlines\r\n--X y--\r\nrest'
)
DOCUMENT = b'{"model": "m", "n": 2, "ok": true, "null": null, "o": {"p": [{"q": "x"}, {"q": "y"}]}, "tags": ["a", 1]}'


def holds(document: object, body: bytes, content_type: bytes) -> bool:
    head = b"POST / HTTP/1.1\r\nContent-Type: " + content_type
    request = RequestVariables(b"POST", b"/", b"h", head, ("192.0.2.1", 1), ("192.0.2.2", 2))
    request.body = body
    return compile_expression(document).matches(request)


@pytest.mark.parametrize(
    ("content_type", "body", "name", "value"),
    [
        (FORM, b"a=1&b=%20+&a=2", "post_arg_a", "1"),
        (FORM, b"a=1&b=%20+&a=2", "post_arg_b", "  "),
        (FORM, b"a=1", "post_arg.a", "1"),
        (FORM, b"a.b=1", "post_arg.a.b", "1"),
        (FORM, b"a=1", "post_arg_c", None),
        (b"text/plain", b"a=1", "post_arg_a", None),
        (MULTIPART, PARTS, "post_arg_a", "1"),
        (MULTIPART, PARTS, "post_arg.b", "two\r\nlines"),
        (MULTIPART, PARTS, "post_arg_c", None),
        (b"multipart/form-data", PARTS, "post_arg_a", None),
        (JSON, DOCUMENT, "post_arg.model", "m"),
        (JSON, DOCUMENT, "post_arg.n", 2),
        (JSON, DOCUMENT, "post_arg.ok", True),
        (JSON, DOCUMENT, "post_arg.null", None),
        (JSON, DOCUMENT, "post_arg.o.p[1].q", "y"),
        (JSON, DOCUMENT, "post_arg.o.p[2].q", None),
        (JSON, DOCUMENT, "post_arg.o", None),
        (JSON, DOCUMENT, "post_arg.model.x", None),
        (JSON, DOCUMENT, "post_arg_model", None),
        (JSON, b'{"a": 1, "a": 2}', "post_arg.a", None),
        (JSON, b"{", "post_arg.a", None),
        (JSON, b"[" * 5000, "post_arg.a", None),
    ],
)
def test_a_body_gives_variables_their_values(content_type: bytes, body: bytes, name: str, value: object) -> None:
    assert holds([[name, "==", value]], body, content_type)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (["post_arg.tags", "has", "a"], True),
        (["post_arg.tags", "has", 1], True),
        (["post_arg.tags", "has", True], False),
        (["post_arg.o.p[*].q", "has", "y"], True),
        (["post_arg.o.p[*].q", "!", "has", "z"], True),
        (["post_arg.tags", "==", "a"], False),
        (["post_arg.tags", "in", ["a"]], False),
        (["post_arg.n", ">", 1], True),
        (["post_arg.n", "in", [2]], True),
        (["post_arg.ok", "in", [1]], False),
        (["post_arg.n", "~~", "^2$"], True),
        (["post_arg.ok", "~~", "true"], False),
    ],
)
def test_values_of_json_keep_their_type(comparison: list[object], expected: bool) -> None:
    assert holds([comparison], DOCUMENT, JSON) == expected


@given(st.binary(max_size=200), st.sampled_from([FORM, JSON, MULTIPART]))
def test_no_body_makes_a_variable_fail(body: bytes, content_type: bytes) -> None:
    for name in ("post_arg_a", "post_arg.a[*].b"):
        holds([[name, "==", "x"], [name, "has", "y"]], body, content_type)
