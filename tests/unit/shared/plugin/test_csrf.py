"""csrf: a token that only a page of the same site can send twice."""

from __future__ import annotations

import base64
import json

import pytest

from shared.plugin.builtin.csrf import Csrf, CsrfConfig
from tests.support.native import Message, Native, refusal

NAME = "apisix-csrf-token"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1_700_000_000.0]
    monkeypatch.setattr(Csrf, "clock", staticmethod(lambda: clock[0]))
    return clock


def scene(**conf: object) -> Native:
    return Native({"csrf": {"key": "secret", **conf}})


def cookie_of(answer: Message) -> str:
    return (answer["set-cookie"] or "").partition(";")[0].partition("=")[2]


def post(native: Native, header: str | None, cookie: str | None) -> str:
    fields = [] if header is None else [f"{NAME}: {header}"]
    fields += [] if cookie is None else [f"Cookie: a=b; {NAME}={cookie}"]
    return "passes" if native.request("/p", *fields, method="POST") is not None else native.answer.body.decode()


def test_the_token_of_a_page_opens_the_next_request(now: list[float]) -> None:
    native = scene()
    answer = native.passed()
    assert (answer["set-cookie"] or "").endswith(";path=/;SameSite=Lax;Expires=Wed, 15 Nov 2023 00:13:20 GMT")
    token = cookie_of(answer)
    assert post(native, token, token) == "passes"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_needs_none(method: str) -> None:
    assert scene().request(method=method) is not None


def test_what_is_refused(now: list[float]) -> None:
    native = scene(expires=60)
    token = cookie_of(native.passed())
    other = Csrf(CsrfConfig(key="other")).token()
    document = json.loads(base64.b64decode(token))
    changed: list[dict[str, object]] = [{**document, "sign": ""}, {**document, "expires": 2**40}]
    forged = [base64.b64encode(json.dumps(each).encode()).decode() for each in changed]
    assert "no csrf token in headers" in post(native, None, token)
    assert "no csrf cookie" in post(native, token, None)
    assert "csrf token mismatch" in post(native, token, other)
    for bad in (other, *forged, "x", "e30=", base64.b64encode(b"[" * 900).decode(), "é"):
        assert "Failed to verify the csrf token signature" in post(native, bad, bad)
    assert native.answer.status == 401
    now[0] += 61
    assert "Failed to verify" in post(native, token, token)


def test_a_token_may_last(now: list[float]) -> None:
    native = scene(expires=0)
    token = cookie_of(native.passed())
    now[0] += 10**8
    assert post(native, token, token) == "passes"


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({}, 'property "key" is required'),
        ({"key": ""}, "string too short"),
        ({"key": "k", "expires": -1}, "at least 0"),
        ({"key": "k", "expires": "1"}, "wrong type: expected integer"),
        ({"key": "k", "name": "a b"}, "failed to match pattern"),
        ({"key": "k", "name": ""}, "string too short"),
    ],
    ids=str,
)
def test_refused(conf: dict[str, object], text: str) -> None:
    assert text in refusal("csrf", conf)
