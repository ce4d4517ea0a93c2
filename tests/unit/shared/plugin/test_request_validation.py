"""request-validation: what passes, what is refused and how; and bodies that are held until they are whole."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.plugin.builtin.request_validation import read_document
from tests.support.native import Message, Native, refusal

ORDER = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "integer", "minimum": 1}, "note": {"type": "string", "pattern": "^(a+)+$"}},
}
JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"


def checked(conf: dict[str, Any]) -> Native:
    return Native({"request-validation": conf})


def posted(body: bytes, *fields: str, **conf: Any) -> Message | None:  # noqa: ANN401
    """The refusal of a body by a schema; None when it went to the upstream as it was."""
    native = checked({"body_schema": ORDER, **conf})
    sent = native.request("/p", *(fields or (JSON,)), method="POST", body=body)
    if sent is None:
        return native.answer
    assert sent.body == body
    return None


@pytest.mark.parametrize(
    "body", [b'{"id": 1}', b'{"id": 5, "note": "aaa", "more": [1]}', b' {"id":10000000000000000000000} '], ids=repr
)
def test_a_body_that_fits_goes_on_as_it_was(body: bytes) -> None:
    assert posted(body) is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", 'property "id" is required'),
        (b'{"id": "secret-1"}', 'property "id" validation failed: value is not of type "integer"'),
        (b'{"id": 0}', 'property "id" validation failed: value is less than the minimum of 1'),
        (b'{"id": 1, "note": "' + b"a" * 5000 + b'!"}', 'property "note" validation failed: value does not match "^(a+)+$"'),
        (b"[1]", 'value is not of type "object"'),
        (b"", "the request has no body"),
        (b"{", "the body is no JSON that can be read"),
        (b'{"id": NaN}', "NaN is no JSON"),
        (b'{"id": 1, "id": 2}', "a member of the body's JSON comes twice"),
        (b"\xff", "the body is no JSON that can be read"),
        (b"[" * 100_000, "the body is no JSON that can be read"),
        (b'{"id": ' + b"9" * 5000 + b"}", "the body is no JSON that can be read"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_does_not_fit_is_refused(body: bytes, says: str) -> None:
    answer = posted(body)
    assert answer is not None
    assert (answer.status, answer.body.decode()) == (400, says)
    assert answer["content-type"] == "text/plain; charset=utf-8"


def test_an_operator_says_it_in_other_words() -> None:
    answer = posted(b"{}", rejected_code=422, rejected_msg="customized reject message")
    assert answer is not None
    assert (answer.status, answer.body) == (422, b"customized reject message")


def test_a_form_is_an_object_of_texts() -> None:
    schema = {"properties": {"a": {"const": "1"}, "b": {"type": "array", "items": {"type": "string"}}}, "required": ["a", "b"]}
    native = checked({"body_schema": schema})
    assert native.request("/p", FORM, method="POST", body=b"a=1&b=x&b=%20x&c=") is not None
    assert native.reply("/p", FORM, method="POST", body=b"a=1").body == b'property "b" is required'
    assert native.reply("/p", FORM, method="POST", body=b"&".join([b"a=1"] * 1001)).status == 400


def test_equal_values_of_a_form_are_as_many_as_they_are() -> None:
    assert read_document(b"a=1&a=1&a=1", FORM.partition(": ")[2]) == {"a": ["1", "1", "1"]}


HEADERS = {"required": ["X-Id"], "properties": {"X-Id": {"pattern": "^[0-9]+$"}, "X-Twice": {"type": "array"}}}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (("x-id: 12",), None),
        (("X-ID: 12", "x-twice: 1", "X-Twice: 2"), None),
        ((), b'property "x-id" is required'),
        (("X-Id: a1",), b'property "x-id" validation failed: value does not match "^[0-9]+$"'),
        (("X-Id: 1", "X-Twice: 2"), b'property "x-twice" validation failed: value is not of type "array"'),
    ],
)
def test_headers_by_their_names_in_any_case(fields: tuple[str, ...], says: bytes | None) -> None:
    native = checked({"header_schema": {"allOf": [HEADERS]}})
    if says is None:
        assert native.request("/p", *fields) is not None
    else:
        assert native.reply("/p", *fields).body == says


def test_headers_come_first_and_need_no_body() -> None:
    native = checked({"header_schema": HEADERS, "body_schema": ORDER})
    assert native.reply("/p", JSON, "Content-Length: 100", method="POST", eos=False).body == b'property "x-id" is required'


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({}, "expected one of header_schema, body_schema at least"),
        ({"body_schema": {"type": "objec"}}, 'property "body_schema" validation failed: not a JSON Schema that can be used'),
        ({"body_schema": {"properties": {"a": {"pattern": "(?=a)"}}}}, 'value is not a "regex"'),
        ({"body_schema": {"$ref": "http://127.0.0.1:1/schema"}}, "Retrieval is disabled"),
        ({"body_schema": {"$ref": "file:///etc/passwd"}}, "Retrieval is disabled"),
        ({"header_schema": []}, "header_schema"),
        ({"body_schema": ORDER, "rejected_code": 99}, "rejected_code"),
        ({"body_schema": ORDER, "rejected_msg": ""}, "rejected_msg"),
        ({"body_schema": ORDER, "rejected_msg": "a" * 257}, "rejected_msg"),
        ({"body_schema": ORDER, "max_req_body_size": 0}, "max_req_body_size"),
    ],
)
def test_wrong_configurations_are_refused(conf: dict[str, Any], says: str) -> None:
    assert says in refusal("request-validation", conf)


# Bodies that come in pieces.


def test_a_body_is_held_until_it_is_whole() -> None:
    native = checked({"body_schema": ORDER})
    assert native.request("/p", JSON, "Content-Length: 9", method="POST", body=b'{"i', eos=False) is None
    native.exchange.request_body(b'd": ', False)
    assert native.recorded.upstream == []
    native.exchange.request_body(b"1}", True)
    assert Message.of(b"".join(native.recorded.upstream)).body == b'{"id": 1}'


def test_a_body_in_chunks_is_held_too_and_is_refused_at_its_end() -> None:
    native = checked({"body_schema": ORDER})
    native.request("/p", JSON, "Transfer-Encoding: chunked", method="POST", body=b"[", eos=False)
    native.exchange.request_body(b"1]", False)
    assert native.recorded.client == []
    native.exchange.request_body(b"", True)
    assert (native.answer.status, native.recorded.upstream) == (400, [])


@pytest.mark.parametrize("fields", [("Content-Length: 11",), ("Transfer-Encoding: chunked",)])
def test_a_body_that_is_too_long_is_refused_as_soon_as_that_is_known(fields: tuple[str, ...]) -> None:
    native = checked({"body_schema": ORDER, "max_req_body_size": 10})
    native.request("/p", JSON, *fields, method="POST", eos=False)
    if "chunked" in fields[0]:
        assert native.recorded.client == []
        native.exchange.request_body(b"[" + b"1" * 10, False)
    assert (native.answer.status, native.recorded.upstream) == (413, [])
    native.exchange.request_body(b"1]", True)


def test_a_large_body_is_read_on_while_it_is_wanted() -> None:
    native = checked({"body_schema": {"type": "array"}})
    native.request("/p", JSON, "Transfer-Encoding: chunked", method="POST", body=b"[", eos=False)
    native.stage.said.clear()
    for _ in range(10):
        native.exchange.request_body(b" " * 60_000, False)
    assert native.stage.said == []
    native.exchange.request_body(b"]", True)
    assert len(native.recorded.upstream[0]) > 600_000


def test_a_client_that_leaves_ends_the_waiting() -> None:
    native = checked({"body_schema": ORDER})
    native.request("/p", JSON, "Content-Length: 9", method="POST", body=b'{"i', eos=False)
    native.exchange.client_gone()
    assert native.recorded.upstream == []


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
)


@given(ANY_JSON)
def test_any_json_reads_as_what_it_is(document: object) -> None:
    assert read_document(json.dumps(document).encode(), "") == document


@given(st.binary(min_size=1, max_size=60), st.sampled_from(["", "application/x-www-form-urlencoded"]))
def test_any_bytes_are_a_document_or_refused(body: bytes, kind: str) -> None:
    with contextlib.suppress(ValueError):
        read_document(body, kind)
