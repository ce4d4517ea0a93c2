"""response-rewrite: what the client gets instead."""

from __future__ import annotations

import gzip
import zlib

import pytest

from shared.plugin.builtin.response_rewrite import HELD_BYTES
from tests.support.native import Native, refusal


def scene(**conf: object) -> Native:
    return Native({"response-rewrite": conf})


def test_status_and_body() -> None:
    got = scene(status_code=201, body="made").passed()
    assert (got.line, got["content-length"], got.body) == ("HTTP/1.1 201 Created", "4", b"made")


@pytest.mark.parametrize("pieces", [(b"hello",), (b"he", b"llo"), ()])
def test_a_new_body_comes_once(pieces: tuple[bytes, ...]) -> None:
    native = scene(body="aGk=", body_base64=True)
    native.request()
    answer = native.response(*pieces, fields=("ETag: 1", "Last-Modified: x", "Content-Encoding: br"))
    assert b"hi" in answer.body
    assert answer.body.count(b"hi") == 1
    assert [answer[name] for name in ("etag", "last-modified", "content-encoding")] == [None, None, None]


def test_an_empty_body_is_one() -> None:
    assert scene(body="").passed().body == b""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-A": "new"}, ["new"]),
        ({"X-A": 3}, ["3"]),
        ({"X-A": ""}, []),
        ({"set": {"X-A": "$remote_addr $status"}}, ["10.0.0.1 "]),
        ({"add": ["X-A: b:c", "x-a: d"]}, ["a", "b:c", "d"]),
        ({"add": ["X-A: d"], "remove": ["X-A"]}, []),
        ({"remove": ["x-b"]}, ["a"]),
    ],
)
def test_headers(headers: dict[str, object], expected: list[str]) -> None:
    got = scene(headers=headers).passed(fields=("X-A: a", "X-B: b"))
    assert [value.strip() for value in got.all("x-a")] == [value.strip() for value in expected]
    assert got["content-length"] == "5"


@pytest.mark.parametrize(
    ("vars", "status", "rewritten"),
    [
        ([["status", "==", 200]], 200, True),
        ([["status", "==", 200]], 404, False),
        ([["status", ">=", 400], ["arg_x", "==", "1"]], 500, True),
        ([["http_x_no", "==", "1"]], 500, False),
        ([], 200, True),
    ],
)
def test_vars_decide(vars: list[object], status: int, rewritten: bool) -> None:
    got = scene(vars=vars, body="new", status_code=299).passed(target="/p?x=1", status=status)
    assert (got.status, got.body) == ((299, b"new") if rewritten else (status, got.body))
    assert rewritten or b"hello" in got.body


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"regex": "l", "replace": "L"}, b"heLlo"),
        ({"regex": "l", "replace": "L", "scope": "global"}, b"heLLo"),
        ({"regex": "L", "replace": "x", "options": "jio", "scope": "global"}, b"hexxo"),
        ({"regex": "(h)(e)", "replace": "$2${1}$$"}, b"eh$llo"),
        ({"regex": "l+", "replace": "<$0>"}, b"he<ll>o"),
        ({"regex": "ello", "replace": "x", "options": "a"}, b"hello"),
        ({"regex": "o$", "replace": "$arg_x"}, "hellé".encode()),
    ],
)
@pytest.mark.parametrize("pieces", [(b"hello",), (b"h", b"el", b"lo")])
def test_filters(filter: dict[str, object], expected: bytes, pieces: tuple[bytes, ...]) -> None:
    native = scene(filters=[filter])
    native.request("/p?x=%C3%A9")
    assert expected in native.response(*pieces).body


def test_filters_follow_each_other_through_a_coding() -> None:
    native = scene(filters=[{"regex": "hello", "replace": "bye"}, {"regex": "bye", "replace": "ciao"}])
    for packed, coding in ((gzip.compress(b"hello"), "gzip"), (zlib.compress(b"hello"), "deflate")):
        native.request()
        answer = native.response(packed[:4], packed[4:], fields=(f"Content-Encoding: {coding}", "ETag: 1"))
        assert b"ciao" in answer.body
        assert (answer["content-encoding"], answer["etag"]) == (None, None)


def test_an_unknown_coding_and_a_body_that_is_too_long_pass_as_they_are() -> None:
    native = scene(filters=[{"regex": "h", "replace": "x"}])
    native.request()
    answer = native.response(b"hello", fields=("Content-Encoding: br",))
    assert (answer.body, answer["content-encoding"]) == (b"hello", "br")
    native.request()
    assert native.response(b"h" * HELD_BYTES, b"h").body.count(b"h") == HELD_BYTES + 1


@pytest.mark.parametrize("packed", [gzip.compress(bytes(HELD_BYTES + 1)), b"no gzip at all"], ids=["bomb", "broken"])
def test_what_cannot_be_unpacked_is_no_answer(packed: bytes) -> None:
    native = scene(filters=[{"regex": "h", "replace": "x"}])
    native.request()
    assert native.response(packed, fields=("Content-Encoding: gzip",)).status == 503
    native.request()
    # Of the first two bytes only those of gzip can be right.
    native.response(packed[:2], packed[2:], fields=("Content-Encoding: gzip",))
    assert native.recorded.cut or native.answer.status == 503
    assert native.recorded.cut is (packed[:1] == b"\x1f")


def test_bodiless_answers_have_none() -> None:
    native = scene(body="new")
    native.request(method="HEAD")
    assert native.response(fields=("X: y",)).body == b""
    native.request()
    assert native.response(status=304).body == b""


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"status_code": 199}, "expected 199 to be at least 200"),
        ({"status_code": 600}, "expected 600 to be at most 599"),
        ({"status_code": "200"}, "wrong type: expected integer, got string"),
        ({"body": 5}, "wrong type: expected string, got number"),
        ({"body": "x", "body_base64": True}, "invalid base64 content"),
        ({"body_base64": True}, "invalid base64 content"),
        ({"body": "x", "filters": [{"regex": "a", "replace": "b"}]}, "body and filters exclude each other"),
        ({"filters": []}, "expect array to have at least 1 items"),
        ({"filters": [{"regex": "a"}]}, 'property "replace" is required'),
        ({"filters": [{"replace": "a"}]}, 'property "regex" is required'),
        ({"filters": [{"regex": "(", "replace": "a"}]}, "missing )"),
        ({"filters": [{"regex": "a", "replace": "$1"}]}, "the expression has 0 groups"),
        ({"filters": [{"regex": "a", "replace": "b", "options": "z"}]}, "unknown options 'z'"),
        ({"filters": [{"regex": "a", "replace": "b", "scope": "all"}]}, "matches none of the enum values"),
        ({"headers": {"add": ["no colon"]}}, 'expected "name: value"'),
        ({"headers": {"add": ["Connection: close"]}}, "the gateway itself decides this header"),
        ({"headers": {"set": {"Content-Length": 1}}}, "the gateway itself decides this header"),
        ({"vars": [["status", "=", 1]]}, "failed to validate the 'vars' expression: invalid operator '='"),
        ({"vars": "x"}, "wrong type: expected array, got string"),
        ({"vars": [["post_arg_x", "==", "1"]]}, "body"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("response-rewrite", conf)
