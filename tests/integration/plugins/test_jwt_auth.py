"""plugins/rust/jwt-auth: which tokens pass, and what the upstream and the client learn."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.proxy_wasm import Plugin, Refused, Stream
from tests.support.examples import load

SECRET = "a secret of more than thirty-two bytes"
HS256 = {"alg": "HS256", "typ": "JWT"}
NOW = int(time.time())
VALID = {"sub": "alice", "exp": NOW + 3600}


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims: object = VALID, header: object = HS256, secret: str = SECRET) -> str:
    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


def ask(plugin: Plugin, *authorizations: str, **headers: str) -> Stream:
    fields = [*(("Authorization", value) for value in authorizations), *headers.items()]
    return plugin.request(path="/orders", headers=fields)


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    with load("rust-jwt-auth", {"secret": SECRET}) as plugin:
        yield plugin


@pytest.mark.parametrize("value", [f"Bearer {token()}", f"bearer  {token()} ", token()])
def test_a_valid_token_passes(plugin: Plugin, value: str) -> None:
    stream = ask(plugin, value)
    assert stream.forwarded.path == "/orders"
    assert stream.forwarded.headers["authorization"] == value.strip()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("Bearer ", "the token is malformed"),
        ("Bearer a.b", "the token is malformed"),
        (f"Basic {token()}", "a bearer token is expected"),
        ("caf\u00e9", "the token is malformed"),
        ("\udcff", "the token is malformed"),
        (f"Bearer {token()}x", "the signature is wrong"),
        (f"Bearer {token()}=", "the signature is wrong"),
        (f"Bearer {token(secret='another secret of thirty-two bytes')}", "the signature is wrong"),
        (f"Bearer {token().rpartition('.')[0]}.", "the signature is wrong"),
        (f"Bearer {token(header={'alg': 'none'})}", "the token is of an unknown kind"),
        (f"Bearer {token(header={'alg': 'HS512'})}", "the token is of an unknown kind"),
        (f"Bearer {token(header=HS256 | {'crit': ['b64']})}", "the token is of an unknown kind"),
        (f"Bearer {token(header=['HS256'])}", "the token is malformed"),
        (f"Bearer {token(claims=['sub'])}", "the token is malformed"),
        (f"Bearer {token({'sub': 'alice'})}", "the token has no expiry"),
        (f"Bearer {token({'exp': str(NOW + 3600)})}", "the token has no expiry"),
        (f"Bearer {token({'exp': NOW - 1})}", "the token has expired"),
        (f"Bearer {token(VALID | {'nbf': NOW + 3600})}", "the token is not valid yet"),
        (f"Bearer {token(VALID | {'nbf': 'now'})}", "the token is not valid yet"),
    ],
    # A token's text is another one each second.
    ids=lambda value: "token" if "ey" in value else value,
)
def test_any_other_is_told_why(plugin: Plugin, value: str, reason: str) -> None:
    stream = ask(plugin, value)
    assert not stream.was_forwarded
    assert stream.response.status == 401
    assert stream.response.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{reason}"'
    assert json.loads(stream.response.body) == {"error_msg": reason}


CONTROL = bytes({*range(32), 127} - {9})
# What a client may write into a header, and what an issuer may sign.
VALUES = st.binary(max_size=120).map(lambda data: data.translate(None, CONTROL).decode("utf-8", "surrogateescape"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["exp", "nbf", "sub", "aud", "alg"]), inner),
    max_leaves=9,
)


@given(VALUES, VALUES)
@settings(max_examples=300, deadline=None)
def test_nothing_that_a_client_sends_harms_it(plugin: Plugin, value: str, other: str) -> None:
    for sent in (value, f"Bearer {value}.{other}", f"Bearer {token()}{value}", f"{other} {token()}"):
        assert ask(plugin, sent, **{"x-user": other}).response.status in (200, 401)
    assert plugin.failure is None


@given(JSON, JSON)
@settings(max_examples=300, deadline=None)
def test_nothing_that_an_issuer_signs_harms_it(plugin: Plugin, claims: object, header: object) -> None:
    assert ask(plugin, f"Bearer {token(claims, header)}").response.status in (200, 401)
    assert ask(plugin, f"Bearer {token(claims)}").response.status in (200, 401)
    assert plugin.failure is None


def test_an_unsigned_token_does_not_pass_whatever_it_says(plugin: Plugin) -> None:
    unsigned = f"{part(json.dumps({'alg': 'none'}).encode())}.{part(json.dumps(VALID).encode())}."
    assert ask(plugin, f"Bearer {unsigned}").response.status == 401


def test_a_signature_of_another_length_is_wrong(plugin: Plugin) -> None:
    signed = token().rpartition(".")[0]
    digest = hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha512)
    assert ask(plugin, f"Bearer {signed}.{part(digest)}").response.status == 401


def test_without_a_token_the_scheme_is_told_only(plugin: Plugin) -> None:
    assert ask(plugin).response.headers.all("www-authenticate") == ["Bearer"]


def test_of_two_tokens_none_is_believed(plugin: Plugin) -> None:
    assert ask(plugin, f"Bearer {token()}", "Bearer other").response.status == 401


def test_the_subject_reaches_the_upstream_and_no_client_can_say_it(plugin: Plugin) -> None:
    named = plugin.sibling(json.dumps({"secret": SECRET, "subject_header": "X-User", "remove_token": True}))
    stream = ask(named, f"Bearer {token()}", **{"x-user": "root"})
    assert stream.forwarded.headers.all("x-user") == ["alice"]
    assert "authorization" not in stream.forwarded.headers
    for claims in ({"exp": NOW + 3600}, {"exp": NOW + 3600, "sub": 7}, {"exp": NOW + 3600, "sub": "a\r\nx-admin: yes"}):
        stream = ask(named, f"Bearer {token(claims)}", **{"X-USER": "root"})
        assert "x-user" not in stream.forwarded.headers
        assert "x-admin" not in stream.forwarded.headers
    named.close()


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"iss": "us", "aud": "orders"}, 200),
        ({"iss": "us", "aud": ["mail", "orders"]}, 200),
        ({"iss": "us"}, 401),
        ({"iss": "us", "aud": "mail"}, 401),
        ({"iss": "us", "aud": ["mail", 7]}, 401),
        ({"iss": "them", "aud": "orders"}, 401),
        ({"aud": "orders"}, 401),
        ({"iss": "us", "aud": "orders", "exp": -100}, 200),
        ({"iss": "us", "aud": "orders", "exp": -7200}, 401),
        ({"iss": "us", "aud": "orders", "nbf": 100}, 200),
    ],
)
def test_issuer_audience_and_leeway(plugin: Plugin, claims: dict[str, object], status: int) -> None:
    conf = {"secret": SECRET, "issuer": "us", "audience": "orders", "leeway_seconds": 600}
    strict = plugin.sibling(json.dumps(conf))
    # From the moment of the test on: it may run long after it was collected.
    now = {name: int(time.time()) + offset for name, offset in claims.items() if isinstance(offset, int)}
    assert ask(strict, f"Bearer {token(VALID | claims | now)}").response.status == status
    strict.close()


def test_the_token_may_come_in_another_header(plugin: Plugin) -> None:
    other = plugin.sibling(json.dumps({"secret": SECRET, "header": "X-Token"}))
    assert ask(other, "Basic abc", **{"x-token": token()}).response.status == 200
    assert ask(other, f"Bearer {token()}").response.status == 401
    other.close()


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({}, "at least 32 bytes are expected for secret"),
        ({"secret": "short"}, "at least 32 bytes are expected for secret"),
        ({"secret": SECRET, "subject_header": "x y"}, "not a header name: x y"),
        ({"secret": SECRET, "leeway_seconds": -1}, "a number from 0 to 600 is expected for leeway_seconds"),
        ({"secret": SECRET, "leeway_seconds": 1.5}, "a number from 0 to 600 is expected for leeway_seconds"),
        ({"secret": SECRET, "remove_token": "yes"}, "true or false is expected for remove_token"),
        ({"secret": SECRET, "isuer": "us"}, "unknown key isuer"),
    ],
)
def test_a_bad_configuration_is_refused(plugin: Plugin, conf: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused) as refused:
        plugin.sibling(json.dumps(conf))
    assert refused.value.logs[-1].message == f"jwt-auth: bad configuration: {reason}"
