"""basic-auth: name and password (RFC 7617; apisix.md, sections 6 and 11)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tests.support.native import Native, refusal

CONSUMERS = {
    "jack": {"basic-auth": {"username": "jack", "password": "a:b: c"}},
    "rose": {"basic-auth": {"username": "rosé", "password": "пароль"}},
    "void": {"basic-auth": {"username": "void", "password": "\x00" * 16}},
}


def native(**conf: Any) -> Native:  # noqa: ANN401 - JSON
    return Native({"basic-auth": conf}, consumers=CONSUMERS)


def basic(text: str, scheme: str = "Basic", encoding: str = "utf-8") -> str:
    return f"Authorization: {scheme} {b64encode(text.encode(encoding)).decode()}"


@pytest.mark.parametrize(
    ("field", "username"),
    [
        (basic("jack:a:b: c"), "jack"),
        (basic("jack:a:b: c", "bASIC"), "jack"),
        (basic("rosé:пароль"), "rose"),
    ],
)
def test_who_has_the_password(field: str, username: str) -> None:
    message = native().request("/p", field)
    assert message is not None
    assert message["x-consumer-username"] == username
    assert message["authorization"] == field.partition(": ")[2]


MISSING, INVALID, WRONG = (
    "Missing authorization in request",
    "Invalid authorization in request",
    "Invalid user authorization",
)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((), MISSING),
        (("Authorization: Bearer x",), INVALID),
        (("Authorization: Basic",), INVALID),
        (("Authorization: Basic !!!",), INVALID),
        (("Authorization: Basic amFjaw",), INVALID),
        ((basic("jack"),), INVALID),
        ((basic("rosé:x", encoding="latin-1"),), INVALID),
        ((basic("jack:a:b: c"), basic("jack:a:b: c")), INVALID),
        ((basic("jack:a"),), WRONG),
        ((basic("jack:a:b:c"),), WRONG),
        ((basic("jack:"),), WRONG),
        ((basic("Jack:a:b: c"),), WRONG),
        ((basic("nobody:" + "\x00" * 16),), WRONG),
        ((basic(":"),), WRONG),
    ],
)
def test_who_has_not_is_refused(fields: tuple[str, ...], text: str) -> None:
    reply = native().reply("/p", *fields)
    assert (reply.status, reply.body) == (401, b'{"message":"%b"}\n' % text.encode())
    assert reply["www-authenticate"] == 'Basic realm="basic"'


def test_credentials_are_hidden_from_the_upstream() -> None:
    message = native(hide_credentials=True).request("/p", basic("jack:a:b: c"))
    assert message is not None
    assert message["authorization"] is None


def test_an_anonymous_consumer_stands_for_the_others() -> None:
    message = native(anonymous_consumer="rose").request("/p", basic("jack:wrong"))
    assert message is not None
    assert message["x-consumer-username"] == "rose"


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"realm": ""}, "string too short"),
        ({"hide_credentials": 1}, "expected boolean"),
        ({"username": "x"}, "additional properties forbidden, found username"),
    ],
)
def test_bad_configurations_are_refused(conf: dict[str, Any], text: str) -> None:
    assert text in refusal("basic-auth", conf)
