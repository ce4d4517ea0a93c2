"""hmac-auth: what has to be signed, by whom, when; and every way in which a signature does not count."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.plugin.builtin.hmac_auth import HmacAuthConsumer, SignatureError, read_signature
from tests.support.native import Message, Native, refusal

NOW = 1_700_000_000
SECRET = "jacks secret"
JACK: dict[str, Any] = {"key_id": "jack-id", "secret_key": SECRET}
DATE = f"Date: {formatdate(NOW, usegmt=True)}"
REFUSAL = "client request can't be validated"


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.plugin.builtin.hmac_auth.HmacAuth.clock", staticmethod(lambda: float(NOW)))


def sign(lines: list[str], secret: str = SECRET, algorithm: str = "sha256", key_id: str = "jack-id") -> str:
    text = "".join(f"{line}\n" for line in [key_id, *lines])
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), algorithm).digest()).decode()


def authorization(headers: str, signature: str, algorithm: str = "hmac-sha256", key_id: str = "jack-id") -> str:
    fields = f'keyId="{key_id}",algorithm="{algorithm}",headers="{headers}",signature="{signature}"'
    return f"Authorization: Signature {fields}"


def usual(line: str = "GET /p", date: str = DATE, **options: Any) -> str:  # noqa: ANN401
    return authorization("@request-target date", sign([line, date.replace("Date", "date", 1)], **options))


def gateway(**conf: Any) -> Native:  # noqa: ANN401
    return Native({"hmac-auth": conf}, consumers={"jack": {"hmac-auth": JACK}, "anyone": {}})


def told(answer: Message) -> str:
    assert (answer.status, answer["www-authenticate"]) == (401, 'hmac realm="hmac"')
    assert SECRET not in answer.body.decode()
    message = json.loads(answer.body)["message"]
    assert isinstance(message, str)
    return message


def test_a_signature_tells_its_consumer() -> None:
    sent = gateway().request("/p", DATE, usual())
    assert sent is not None
    assert sent["x-consumer-username"] == "jack"
    assert sent["authorization"] is not None


def test_credentials_are_hidden() -> None:
    sent = gateway(hide_credentials=True).request("/p", DATE, usual())
    assert sent is not None
    assert sent["authorization"] is None


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_every_algorithm(algorithm: str) -> None:
    signature = sign(["GET /p?a=%20b", DATE.replace("Date", "date")], algorithm=algorithm)
    field = authorization("@request-target date", signature, f"hmac-{algorithm}")
    assert gateway().request("/p?a=%20b", DATE, field) is not None
    other = gateway(allowed_algorithms=["hmac-sha1"])
    assert (other.request("/p?a=%20b", DATE, field) is not None) is (algorithm == "sha1")


def test_headers_are_signed_by_the_names_that_were_written() -> None:
    field = authorization("Date X-A x-none", sign([DATE, "X-A: 1 2"]))
    assert gateway(signed_headers=["x-a", "DATE"]).request("/p", DATE, "x-a: 1 2", field) is not None


def test_x_date_where_date_cannot_be_set() -> None:
    date = DATE.replace("Date", "X-Date")
    field = authorization("x-date", sign([date.replace("X-Date", "x-date")]))
    assert gateway().request("/p", date, field) is not None


PLAIN = "Authorization: Signature "
FORM: list[tuple[str, tuple[str, ...], str]] = [
    ("nothing", (), ": missing Authorization header"),
    ("another scheme", ("Authorization: Basic eA==",), ": Authorization header does not start with 'Signature'"),
    ("a longer scheme", ("Authorization: Signatures x",), ": Authorization header does not start with 'Signature'"),
    ("no fields", (PLAIN + "x",), ": keyId or signature missing"),
    ("an empty key", (PLAIN + 'keyId="",signature="eA==",algorithm="hmac-sha1"',), ": keyId or signature missing"),
    ("no signature", (PLAIN + 'keyId="jack-id",algorithm="hmac-sha1"',), ": keyId or signature missing"),
    ("no algorithm", (PLAIN + 'keyId="jack-id",signature="eA=="',), ": algorithm missing"),
    ("no base64", (PLAIN + 'keyId="a",signature="*",algorithm="hmac-sha1"',), ": signature is not base64"),
    ("a field twice", (PLAIN + 'keyId="a",keyId="b",signature="eA==",algorithm="x"',), ": keyId comes twice"),
    ("two headers", (usual(), usual()), ": keyId or signature missing"),
]


@pytest.mark.parametrize(("fields", "says"), [row[1:] for row in FORM], ids=[row[0] for row in FORM])
def test_a_header_that_says_nothing(fields: tuple[str, ...], says: str) -> None:
    assert told(gateway().reply("/p", DATE, *fields)) == REFUSAL + says


OLD, SOON = (f"Date: {formatdate(NOW + seconds, usegmt=True)}" for seconds in (-301, 301))
BAD: list[tuple[str, tuple[str, ...]]] = [
    ("an unknown key", (DATE, authorization("@request-target date", sign(["GET /p"], key_id="x"), key_id="x"))),
    ("another secret", (DATE, usual(secret="other"))),
    ("another path", (DATE, usual("GET /q"))),
    ("another method", (DATE, usual("POST /p"))),
    ("another date", (f"Date: {formatdate(NOW - 1, usegmt=True)}", usual())),
    ("an unknown algorithm", (DATE, usual().replace("hmac-sha256", "none"))),
    ("another algorithm", (DATE, usual().replace("hmac-sha256", "hmac-sha512"))),
    ("half a signature", (DATE, authorization("date", sign([DATE.replace("Date", "date")])[:20]))),
    ("an old one, replayed", (OLD, usual(date=OLD))),
    ("an old one with a new date", (DATE, authorization("@request-target", sign(["GET /p"])))),
    ("from the future", (SOON, usual(date=SOON))),
    ("no date", (authorization("@request-target date", sign(["GET /p"])),)),
    ("a date that is none", ("Date: now", usual(date="Date: now"))),
    ("a date without zone", (DATE[:-4], usual(date=DATE[:-4]))),
    ("a date of the year 10000", (DATE.replace("2023", "10000"), usual(date=DATE.replace("2023", "10000")))),
    ("two dates", (DATE, DATE, usual())),
    (
        "x-date signed, date there",
        (DATE, OLD.replace("Date", "X-Date"), authorization("x-date", sign([OLD.replace("D", "x-d")]))),
    ),
]


@pytest.mark.parametrize("fields", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_a_signature_that_does_not_count(fields: tuple[str, ...]) -> None:
    assert told(gateway().reply("/p", *fields)) == REFUSAL


def test_what_has_to_be_signed() -> None:
    native = gateway(signed_headers=["date", "@request-target", "x-a"])
    assert told(native.reply("/p", DATE, "X-A: 1", usual())) == REFUSAL
    field = authorization("@request-target date x-a", sign(["GET /p", DATE.replace("Date", "date"), "x-a: 1"]))
    assert native.request("/p", DATE, "X-A: 1", field) is not None
    assert told(native.reply("/p", DATE, "X-A: 2", field)) == REFUSAL
    assert told(native.reply("/p", DATE, "X-A: 1", "X-A: 2", field)) == REFUSAL


def test_clocks_may_differ_by_so_much() -> None:
    for date in (OLD, SOON):
        assert gateway(clock_skew=301).request("/p", date, usual(date=date)) is not None


def digest(body: bytes) -> str:
    return f"Digest: SHA-256={base64.b64encode(hashlib.sha256(body).digest()).decode()}"


@pytest.mark.parametrize(
    ("fields", "passes"),
    [((digest(b"hello"),), True), ((digest(b"hellO"),), False), ((), False), ((digest(b"hello"), digest(b"x")), False)],
    ids=["right", "of another body", "none", "two"],
)
def test_a_body_has_the_digest_that_was_sent(fields: tuple[str, ...], passes: bool) -> None:
    native = gateway(validate_request_body=True)
    sent = native.request("/p", DATE, usual("POST /p"), *fields, method="POST", body=b"hello")
    if passes:
        assert sent is not None
        assert (sent.body, sent["x-consumer-username"]) == (b"hello", "jack")
    else:
        assert sent is None
        assert told(native.answer) == REFUSAL


def test_no_body_has_a_digest_too() -> None:
    assert gateway(validate_request_body=True).request("/p", DATE, usual(), digest(b"")) is not None


def test_a_body_that_is_too_long_to_be_checked() -> None:
    native = gateway(validate_request_body=True, max_req_body_size=4)
    answer = native.reply("/p", DATE, usual("POST /p"), digest(b"hello"), method="POST", body=b"hello")
    assert answer.status == 413


def test_a_body_is_not_waited_for_when_the_signature_is_wrong() -> None:
    native = gateway(validate_request_body=True)
    answer = native.reply("/p", DATE, usual("PUT /p"), "Content-Length: 9", method="POST", eos=False)
    assert told(answer) == REFUSAL


def test_who_signs_nothing_may_be_somebody() -> None:
    sent = gateway(anonymous_consumer="anyone").request("/p")
    assert sent is not None
    assert sent["x-consumer-username"] == "anyone"
    assert told(gateway(anonymous_consumer="nobody").reply("/p")) == "Invalid user authorization"


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"allowed_algorithms": []}, "allowed_algorithms"),
        ({"allowed_algorithms": ["hmac-md5"]}, "allowed_algorithms"),
        ({"clock_skew": 0}, "clock_skew"),
        ({"clock_skew": "5"}, "clock_skew"),
        ({"signed_headers": [""]}, "signed_headers"),
        ({"signed_headers": ["a" * 51]}, "signed_headers"),
        ({"validate_request_body": 1}, "validate_request_body"),
        ({"max_req_body_size": 0}, "max_req_body_size"),
        ({"realm": ""}, "realm"),
        ({"secret_key": "x"}, "secret_key"),
    ],
)
def test_wrong_configurations_are_refused(conf: dict[str, Any], says: str) -> None:
    assert says in refusal("hmac-auth", conf)


@pytest.mark.parametrize("conf", [{}, {"key_id": "a"}, {"key_id": "", "secret_key": "b"}, {**JACK, "secret_key": "a" * 257}])
def test_wrong_consumers_are_refused(conf: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HmacAuthConsumer.model_validate(conf)


@given(st.text(max_size=200) | st.from_regex(r'Signature (keyId|signature|algorithm|headers)="[^"]*"(,\w*="[^"]*"){0,3}'))
def test_any_header_is_a_signature_or_refused(value: str) -> None:
    try:
        signature = read_signature([value])
    except SignatureError:
        return
    assert signature.key_id
    assert signature.algorithm
