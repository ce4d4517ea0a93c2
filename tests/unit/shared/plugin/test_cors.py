"""cors: which origins a browser is told."""

from __future__ import annotations

import pytest

from tests.support.native import Native, refusal

A, B = "https://a.test", "https://b.test:8443"
BOTH = f"{A},{B}"


@pytest.mark.parametrize(
    ("conf", "origin", "allowed", "varies"),
    [
        ({}, A, "*", False),
        ({}, None, "*", False),
        ({"allow_origins": "**"}, A, A, True),
        ({"allow_origins": "**"}, None, "*", True),
        ({"allow_origins": A}, A, A, True),
        ({"allow_origins": BOTH}, B, B, True),
        ({"allow_origins": BOTH}, "https://c.test", None, True),
        ({"allow_origins": BOTH}, "https://b.test", None, True),
        ({"allow_origins": BOTH}, None, None, True),
        ({"allow_origins": "null"}, "null", "null", True),
        ({"allow_origins_by_regex": [r".*\.a\.test$"]}, "http://x.a.test", "http://x.a.test", True),
        ({"allow_origins_by_regex": [r"^https?://a\.test$"]}, "http://aatest", None, True),
        ({"allow_origins_by_regex": ["x", "b"]}, None, None, True),
        ({"allow_origins": A, "allow_origins_by_metadata": ["more"]}, B, B, True),
        ({"allow_origins": A, "allow_origins_by_metadata": ["other"]}, B, A, True),
    ],
)
def test_origins(conf: dict[str, object], origin: str | None, allowed: str | None, varies: bool) -> None:
    scene = Native({"cors": conf}, metadata={"cors": {"allow_origins": {"more": BOTH}}})
    got = scene.passed(*(() if origin is None else (f"Origin: {origin}",)))
    assert got["access-control-allow-origin"] == allowed
    assert ("Origin" in got.all("vary")) is varies
    assert (got["access-control-allow-methods"] is None) is (allowed is None)


def test_all_fields() -> None:
    conf = {"allow_methods": "GET", "allow_headers": "x-a,x-b", "expose_headers": "x-c", "max_age": 50}
    got = Native({"cors": conf}).passed(f"Origin: {A}")
    fields = {name[22:]: value for name, value in got.fields if name.startswith("access-control-")}
    expected = {"methods": "GET", "headers": "x-a,x-b", "origin": "*"}
    assert {f"access-control-allow-{key}": value for key, value in expected.items()}.items() <= dict(got.fields).items()
    assert (got["access-control-expose-headers"], got["access-control-max-age"]) == ("x-c", "50")
    assert len(fields) == 5


def test_everything_is_named_with_credentials() -> None:
    conf = {"allow_origins": "**", "allow_methods": "**", "allow_headers": "**", "allow_credential": True}
    got = Native({"cors": conf}).passed(f"Origin: {A}", "Access-Control-Request-Headers: x-q")
    assert got["access-control-allow-credentials"] == "true"
    assert got["access-control-allow-headers"] == "x-q"
    assert "DELETE" in (got["access-control-allow-methods"] or "")
    # Nobody in particular has no credentials.
    assert Native({"cors": conf}).passed()["access-control-allow-credentials"] is None


def test_a_question_is_answered_here() -> None:
    got = Native({"cors": {}}).reply("/p", f"Origin: {A}", method="OPTIONS")
    assert (got.status, got["access-control-allow-origin"], got.body) == (200, "*", b"")


def test_what_the_upstream_says_is_replaced() -> None:
    got = Native({"cors": {}}).passed(fields=("Access-Control-Allow-Origin: https://x", "Vary: Accept"))
    assert got.all("access-control-allow-origin") == ["*"]
    assert got.all("vary") == ["Accept"]


def test_timing() -> None:
    got = Native({"cors": {"timing_allow_origins": BOTH}}).passed(f"Origin: {B}")
    assert got["timing-allow-origin"] == B
    got = Native({"cors": {"timing_allow_origins_by_regex": ["nobody"]}}).passed(f"Origin: {B}")
    assert got["timing-allow-origin"] is None


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"allow_credential": True}, 'you can not set "*" for other option when "allow_credential" is true'),
        ({"allow_credential": True, "allow_origins": A, "allow_methods": "GET"}, 'you can not set "*"'),
        ({"allow_origins": "a.test"}, "expected"),
        ({"allow_origins": f"{A}, {B}"}, "expected"),
        ({"allow_origins": 5}, "wrong type: expected string"),
        ({"allow_methods": "GET\n"}, "failed to match pattern"),
        ({"max_age": "5"}, "wrong type: expected integer"),
        ({"max_age": -2}, "expected -2 to be at least -1"),
        ({"allow_origins_by_regex": []}, "at least 1 items"),
        ({"allow_origins_by_regex": ["("]}, "missing )"),
        ({"allow_origins_by_regex": ["a", "a"]}, "expected unique items"),
        ({"allow_origin": "*"}, 'did you mean "allow_origins"?'),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("cors", conf)
