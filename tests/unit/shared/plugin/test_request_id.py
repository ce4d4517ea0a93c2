"""request-id: one name on all sides."""

from __future__ import annotations

import re

import pytest

from tests.support.native import Native, refusal

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-%s[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.mark.parametrize(
    ("conf", "shape"),
    [
        ({}, UUID % 4),
        ({"algorithm": "uuidv7"}, UUID % 7),
        ({"algorithm": "nanoid"}, r"[A-Za-z0-9_-]{21}"),
        ({"algorithm": "ksuid"}, r"[0-9A-Za-z]{27}"),
        ({"algorithm": "range_id"}, r"[0-9A-Za-z]{16}"),
        ({"algorithm": "range_id", "range_id": {"char_set": "abcdef", "length": 6}}, r"[a-f]{6}"),
    ],
)
def test_a_new_one_for_the_upstream_and_for_the_client(conf: dict[str, object], shape: str) -> None:
    scene = Native({"request-id": conf})
    seen = set()
    for _ in range(20):
        got = scene.request()
        assert got is not None
        name = got["x-request-id"]
        assert name is not None
        assert re.fullmatch(shape, name)
        assert scene.response(b"").all("x-request-id") == [name]
        seen.add(name)
    assert len(seen) == 20


def test_the_clients_own_stays_unless_no_log_could_take_it() -> None:
    scene = Native({"request-id": {"header_name": "X-Trace"}})
    got = scene.request("/p", "X-Trace: mine")
    assert got is not None
    assert got.all("x-trace") == ["mine"]
    assert scene.response(b"")["x-trace"] == "mine"
    got = scene.request("/p", f"X-Trace: {'x' * 257}")
    assert got is not None
    assert len(got["x-trace"] or "") == 36


def test_the_response_keeps_its_own_or_has_none() -> None:
    assert Native({"request-id": {}}).passed(fields=("X-Request-Id: up",)).all("x-request-id") == ["up"]
    assert Native({"request-id": {"include_in_response": False}}).passed()["x-request-id"] is None


def test_a_reply_of_another_plugin_has_it() -> None:
    got = Native({"request-id": {}, "ip-restriction": {"whitelist": ["1.1.1.1"]}}).reply()
    assert got.status == 403
    assert got["x-request-id"] is not None


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"algorithm": "snowflake"}, "matches none of the enum values"),
        ({"header_name": ""}, "string too short"),
        ({"header_name": "a b"}, "not a header name"),
        ({"header_name": "Connection"}, "the gateway itself decides"),
        ({"include_in_response": 1}, "wrong type: expected boolean"),
        ({"range_id": {"length": 5}}, "expected 5 to be at least 6"),
        ({"range_id": {"char_set": "abc"}}, "string too short"),
        ({"range_id": {"char_set": "abc def"}}, "failed to match pattern"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("request-id", conf)
