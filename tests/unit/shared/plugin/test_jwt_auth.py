"""jwt-auth: whose token counts, and every way in which one does not."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.plugin.builtin.jwt_auth import PAYLOAD, JwtAuthConsumer
from shared.plugin.jwt import TokenError, read_token
from tests.support.native import Message, Native, refusal

HASHES: dict[str, type[HashAlgorithm]] = {"256": SHA256, "384": SHA384, "512": SHA512}
SECRET = "a secret that nobody guesses, and long enough"
JACK: dict[str, Any] = {"key": "jack-key", "secret": SECRET}


def part(data: bytes | dict[str, Any]) -> str:
    raw = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs(secret: str, message: bytes, algorithm: str = "HS256") -> bytes:
    return hmac.new(secret.encode(), message, getattr(hashlib, f"sha{algorithm[2:]}")).digest()


def token(claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, secret: str = SECRET) -> str:
    header = {"alg": "HS256", "typ": "JWT", **(header or {})}
    text = f"{part(header)}.{part({'key': 'jack-key', **(claims or {})})}"
    algorithm = str(header["alg"])
    return f"{text}.{part(hs(secret, text.encode(), algorithm if algorithm.startswith('HS') else 'HS256'))}"


def gateway(conf: dict[str, Any] | None = None, jack: dict[str, Any] | None = None) -> Native:
    return Native({"jwt-auth": conf or {}}, consumers={"jack": {"jwt-auth": jack or JACK}, "anyone": {}})


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


def told(answer: Message) -> str:
    assert answer.status == 401
    assert answer["www-authenticate"] == 'Bearer realm="jwt"'
    message = json.loads(answer.body)["message"]
    assert isinstance(message, str)
    return message


@pytest.fixture(autouse=True)
def _at_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the thousandth second."""
    monkeypatch.setattr("shared.plugin.builtin.jwt_auth.JwtAuth.clock", staticmethod(lambda: 1000.0))


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/p", bearer(token())),
        ("/p", f"authorization: bearer {token()}"),
        ("/p", f"Authorization: {token()}"),
        (f"/p?a=1&jwt={token()}", "X: y"),
        ("/p", f"Cookie: a=1; jwt={token()}"),
    ],
    ids=["bearer", "in lower case", "bare", "query", "cookie"],
)
def test_a_token_tells_its_consumer(target: str, field: str) -> None:
    sent = gateway().request(target, field)
    assert sent is not None
    assert sent["x-consumer-username"] == "jack"
    assert token() in f"{sent.target} {sent.fields}"


@pytest.mark.parametrize(
    ("target", "field", "left"),
    [
        (f"/p?jwt={token()}", bearer(token()), (f"/p?jwt={token()}", None, None)),
        (f"/p?a=%31&jwt={token()}&b", "Cookie: b=2", ("/p?a=%31&b", None, "b=2")),
        (f"/p?jwt={token()}&j%77t=x", "X: y", ("/p", None, None)),
        ("/p", f"Cookie: a=1; jwt={token()};b=2", ("/p", None, "a=1; b=2")),
        ("/p", f"Cookie: jwt={token()}", ("/p", None, None)),
    ],
    ids=["header", "query", "all of a query", "cookie", "the only cookie"],
)
def test_credentials_are_hidden_where_they_were(target: str, field: str, left: tuple[str, str | None, str | None]) -> None:
    sent = gateway({"hide_credentials": True}).request(target, field)
    assert sent is not None
    assert (sent.target, sent["authorization"], sent["cookie"]) == left


def test_other_names_of_places_and_of_the_claim() -> None:
    native = gateway({"header": "X-Token", "query": "t", "cookie": "c", "key_claim_name": "iss", "realm": "r"})
    mine = token({"iss": "jack-key", "key": 5})
    for target, field in (("/p", f"X-Token: {mine}"), (f"/p?t={mine}", "X: y"), ("/p", f"Cookie: c={mine}")):
        assert native.request(target, field) is not None
    assert native.reply("/p", bearer(mine))["www-authenticate"] == 'Bearer realm="r"'


NONE = part({"alg": "none"}) + "." + part({"key": "jack-key"}) + "."
TWICE = b'{"alg": "HS256", "alg": "none"}'


def signed(header: bytes, payload: bytes = b'{"key": "jack-key"}') -> str:
    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(hs(SECRET, text.encode()))}"


REFUSED: list[tuple[str, str | None, str]] = [
    ("missing", None, "Missing JWT token in request"),
    ("empty", "", "JWT token invalid"),
    ("no token", "abc", "JWT token invalid"),
    ("two parts", "a.b", "JWT token invalid"),
    ("no base64url", token().replace(".", ".+", 1), "JWT token invalid"),
    ("padded", token() + "=", "JWT token invalid"),
    ("no JSON", signed(b"x"), "JWT token invalid"),
    ("no object", signed(b"[]"), "JWT token invalid"),
    ("no UTF-8", signed(b"\xff"), "JWT token invalid"),
    ("nested", signed(b"[" * 4000), "JWT token invalid"),
    ("too long", token({"x": "a" * 20_000}), "JWT token invalid"),
    ("a member twice", signed(TWICE), "JWT token invalid"),
    ("a claim twice", signed(b'{"alg":"HS256"}', b'{"key": "jack-key", "key": "jack-key"}'), "JWT token invalid"),
    ("not a number", signed(b'{"alg":"HS256"}', b'{"key": "jack-key", "exp": NaN}'), "JWT token invalid"),
    ("crit", token(header={"crit": ["exp"], "exp": 1}), "JWT token invalid"),
    ("empty crit", token(header={"crit": []}), "JWT token invalid"),
    ("no key", token({"key": None}), "missing user key in JWT token"),
    ("another key", token({"key": "jill-key"}), "Invalid user key in JWT token"),
    ("a key that is no text", token({"key": ["jack-key"]}), "Invalid user key in JWT token"),
    ("another secret", token(secret="another secret of someone else"), "failed to verify jwt"),
    ("none", NONE, "failed to verify jwt"),
    ("none, signed", token(header={"alg": "none"}), "failed to verify jwt"),
    ("None", token(header={"alg": "None"}), "failed to verify jwt"),
    ("HS512 for HS256", token(header={"alg": "HS512"}), "failed to verify jwt"),
    ("RS256 for HS256", token(header={"alg": "RS256"}), "failed to verify jwt"),
    ("an algorithm that is no text", token(header={"alg": ["HS256"]}), "failed to verify jwt"),
    ("without signature", token().rpartition(".")[0] + ".", "failed to verify jwt"),
    ("half a signature", token()[:-20], "failed to verify jwt"),
    ("expired", token({"exp": 999}), "failed to verify jwt"),
    ("expires now", token({"exp": 1000}), "failed to verify jwt"),
    ("not yet", token({"nbf": 1001}), "failed to verify jwt"),
    ("exp that is no time", token({"exp": "2000"}), "failed to verify jwt"),
    ("exp that is true", token({"exp": True}), "failed to verify jwt"),
    ("nbf that is true", token({"nbf": True}), "failed to verify jwt"),
    ("endless exp", signed(b'{"alg":"HS256"}', b'{"key": "jack-key", "exp": 1e999}'), "failed to verify jwt"),
]


@pytest.mark.parametrize(("text", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_token_that_does_not_count(text: str | None, says: str) -> None:
    answer = gateway().reply("/p", *([] if text is None else [bearer(text)]))
    assert told(answer) == says
    assert SECRET not in answer.body.decode()


def test_two_headers_are_no_token() -> None:
    assert told(gateway().reply("/p", bearer(token()), bearer(token()))) == "JWT token invalid"


@pytest.mark.parametrize(
    ("claims", "passes"), [({"exp": 1001}, True), ({"nbf": 1000}, True), ({"exp": 1000.5}, True), ({}, True)]
)
def test_times_that_are_right(claims: dict[str, Any], passes: bool) -> None:
    assert (gateway().request("/p", bearer(token(claims))) is not None) is passes


def test_a_grace_for_clocks_that_differ() -> None:
    native = gateway(jack={**JACK, "lifetime_grace_period": 10})
    assert native.request("/p", bearer(token({"exp": 991, "nbf": 1010}))) is not None
    assert told(native.reply("/p", bearer(token({"exp": 990})))) == "failed to verify jwt"


def test_claims_that_are_asked_for_have_to_be_there() -> None:
    native = gateway({"claims_to_verify": ["exp"]})
    assert told(native.reply("/p", bearer(token()))) == "failed to verify jwt"
    assert native.request("/p", bearer(token({"exp": 2000, "nbf": 5000}))) is not None
    assert gateway({"claims_to_verify": []}).request("/p", bearer(token({"exp": 1}))) is not None


def test_the_claims_for_plugins_behind() -> None:
    native = gateway({"store_in_ctx": True})
    native.request("/p", bearer(token({"role": "admin"})))
    assert native.exchange.request.context[PAYLOAD] == {"key": "jack-key", "role": "admin"}  # type: ignore[attr-defined]


def test_who_has_no_token_may_be_somebody() -> None:
    native = gateway({"anonymous_consumer": "anyone"})
    sent = native.request("/p")
    assert sent is not None
    assert sent["x-consumer-username"] == "anyone"
    assert told(gateway({"anonymous_consumer": "nobody"}).reply("/p")) == "Invalid user authorization"


# Keys of two halves.

RSA = rsa.generate_private_key(65537, 2048)
CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
EC = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
ED = ed25519.Ed25519PrivateKey.generate()
ASYMMETRIC = [f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in HASHES] + ["EdDSA"]


def public(algorithm: str) -> str:
    key = ED if algorithm == "EdDSA" else EC.get(algorithm, RSA)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def asymmetric(algorithm: str) -> str:
    text = f"{part({'alg': algorithm})}.{part({'key': 'jack-key'})}"
    message = text.encode()
    if algorithm == "EdDSA":
        return f"{text}.{part(ED.sign(message))}"
    hashed = HASHES[algorithm[2:]]()
    if algorithm in EC:
        size = (CURVES[algorithm].key_size + 7) // 8
        r, s = decode_dss_signature(EC[algorithm].sign(message, ec.ECDSA(hashed)))
        return f"{text}.{part(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"
    pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
    return f"{text}.{part(RSA.sign(message, pss if algorithm[0] == 'P' else padding.PKCS1v15(), hashed))}"


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_every_algorithm_of_two_halves(algorithm: str) -> None:
    native = gateway(jack={"key": "jack-key", "algorithm": algorithm, "public_key": public(algorithm)})
    good = asymmetric(algorithm)
    assert native.request("/p", bearer(good)) is not None
    head, _, signature = good.rpartition(".")
    for bad in (f"{head}.{part(bytes(64))}", f"{head}.", f"{head}.{signature[:-8]}", token()):
        assert told(native.reply("/p", bearer(bad))) == "failed to verify jwt"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_every_algorithm_of_a_secret(algorithm: str) -> None:
    native = gateway(jack={**JACK, "algorithm": algorithm})
    assert native.request("/p", bearer(token(header={"alg": algorithm}))) is not None
    assert told(native.reply("/p", bearer(token()))) == "failed to verify jwt"


def test_a_public_key_is_no_secret() -> None:
    """The oldest trick: HS256 with the text of the public key."""
    native = gateway(jack={"key": "jack-key", "algorithm": "RS256", "public_key": public("RS256")})
    assert told(native.reply("/p", bearer(token(secret=public("RS256"))))) == "failed to verify jwt"


def test_the_key_of_a_certificate() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jack")])
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, EC["ES256"].public_key(), 1, began, began + dt.timedelta(days=1))
    certificate = builder.sign(EC["ES256"], SHA256()).public_bytes(Encoding.PEM).decode()
    native = gateway(jack={"key": "jack-key", "algorithm": "ES256", "public_key": certificate})
    assert native.request("/p", bearer(asymmetric("ES256"))) is not None


def test_a_secret_in_base64() -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    assert gateway(jack={**JACK, "secret": encoded, "base64_secret": True}).request("/p", bearer(token())) is not None


# Configurations.


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"header": "a b"}, "header"),
        ({"query": ""}, "query"),
        ({"cookie": 5}, "cookie"),
        ({"hide_credentials": "yes"}, "hide_credentials"),
        ({"key_claim_name": ""}, "key_claim_name"),
        ({"claims_to_verify": ["iat"]}, "claims_to_verify"),
        ({"claims_to_verify": ["exp", "exp"]}, "unique"),
        ({"realm": 'a"b'}, "realm"),
        ({"anonymous_consumer": ""}, "anonymous_consumer"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_wrong_configurations_are_refused(conf: dict[str, Any], says: str) -> None:
    assert says in refusal("jwt-auth", conf)


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ({"secret": SECRET}, "key"),
        ({"key": "k"}, 'property "secret" is required when "algorithm" is "HS256"'),
        ({"key": "k", "secret": "x", "algorithm": "RS256"}, 'property "public_key" is required'),
        ({"key": "k", "secret": "x", "algorithm": "none"}, "algorithm"),
        ({"key": "k", "public_key": "x", "algorithm": "RS256"}, "not a key for RS256"),
        ({"key": "k", "public_key": public("ES256"), "algorithm": "RS256"}, "not a key for RS256"),
        ({"key": "k", "public_key": public("ES384"), "algorithm": "ES256"}, "not a key for ES256"),
        ({"key": "k", "secret": "no base64!", "base64_secret": True}, "the secret is not in base64 format"),
        ({"key": "k", "secret": SECRET, "exp": 0}, "exp"),
        ({"key": "k", "secret": SECRET, "lifetime_grace_period": -1}, "lifetime_grace_period"),
        ({"key": "k", "secret": ""}, "secret"),
    ],
)
def test_wrong_consumers_are_refused(conf: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        JwtAuthConsumer.model_validate(conf)
    assert says in str(refused.value)


def test_a_reference_is_looked_up_by_workers_only() -> None:
    JwtAuthConsumer.model_validate({"key": "k", "algorithm": "RS256", "public_key": "$env://KEY"})


def test_equal_consumers_are_equal_also_when_one_has_been_used() -> None:
    one, other = JwtAuthConsumer.model_validate(JACK), JwtAuthConsumer.model_validate(JACK)
    assert one.verifier is one.verifier
    assert one == other


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*){2}", fullmatch=True))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        read_token(text)
    except TokenError:
        return
    assert text.count(".") == 2
