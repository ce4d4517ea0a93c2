"""JSON Web Tokens in their compact form (RFC 7515, 7519), as jwt-auth takes them.

The law: what a token says of itself decides nothing about how it is checked: the algorithm is the key's, and a token that names
another one is refused before any arithmetic. Whoever reads a token reads it in one way: no member comes twice, no coding is
lenient, and a header that asks for what is not understood (`crit`) is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"
]
Claim = Literal["exp", "nbf"]
ALL_CLAIMS: tuple[Claim, ...] = ("exp", "nbf")

# A head of a request has 64 KiB at most: no token is larger, but its JSON may be nested deeper than Python reads.
_LONGEST = 16 * 1024
_PART = re.compile(r"[A-Za-z0-9_-]*")
_KEYS: dict[str, Any] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


class TokenError(ValueError):
    """It is not what it has to be; the message says why, without a word of the token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is one, but of which nothing is known to be true yet."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def read_token(text: str) -> Token:
    """Raises TokenError."""
    parts = text.split(".")
    if len(text) > _LONGEST or len(parts) != 3:
        raise TokenError(f"expected three parts and at most {_LONGEST} characters")
    header, claims = _document(parts[0], "header"), _document(parts[1], "payload")
    if "crit" in header:
        raise TokenError("the header has extensions that must be understood (crit)")
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2], "signature"))


class Verifier:
    """An algorithm with its key, made once. Raises ValueError when the two do not fit."""

    __slots__ = ("_algorithm", "_key", "_name")

    def __init__(self, algorithm: Algorithm, key: bytes) -> None:
        """`key`: the secret of HS, else a public key or a certificate in PEM."""
        self._name = algorithm
        # That a secret is short, or EdDSA an old name, is the operator's choice.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._algorithm = JWSRegistry(algorithms=[algorithm]).get_alg(algorithm)
            try:
                self._key: Any = OctKey.import_key(key) if algorithm.startswith("HS") else _public_key(algorithm, key)
                self._algorithm.check_key(self._key)
            except (JoseError, ValueError, TypeError):
                raise ValueError(f"not a key for {algorithm}") from None

    def verify(self, token: Token) -> None:
        """Raises TokenError."""
        if token.header.get("alg") != self._name:
            raise TokenError("the algorithm is not that of the key")
        try:
            genuine = self._algorithm.verify(token.signed, token.signature, self._key)
        except ValueError:
            genuine = False
        if not genuine:
            raise TokenError("signature mismatch")


def check_times(claims: dict[str, Any], which: Iterable[Claim], now: float, leeway: int, needed: bool) -> None:
    """`exp` and `nbf`, seconds since 1970, with so many of grace; what is absent passes unless it is `needed`.

    Raises TokenError."""
    for name in which:
        if name not in claims:
            if needed:
                raise TokenError(f"claim {name} is missing")
            continue
        value = claims[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TokenError(f"claim {name} is no time")
        if name == "exp" and now >= value + leeway:
            raise TokenError("claim exp: the token has expired")
        if name == "nbf" and now < value - leeway:
            raise TokenError("claim nbf: the token is not valid yet")


def decode_secret(secret: str, is_base64: bool) -> bytes:
    """Raises ValueError."""
    if not is_base64:
        return secret.encode()
    try:
        return base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("base64_secret required but the secret is not in base64 format") from None


def _public_key(algorithm: str, key: bytes) -> Any:  # noqa: ANN401 - joserfc has no common type of keys
    if key.lstrip().startswith(_CERTIFICATE.encode()):
        public = x509.load_pem_x509_certificate(key).public_key()
        key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if b"PRIVATE KEY" in key:
        raise ValueError("a private key")
    return _KEYS[algorithm[:2]].import_key(key)


def _document(part: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(_decoded(part, name), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise TokenError(f"the {name} is nested too deeply") from None
    except ValueError as error:
        raise error if isinstance(error, TokenError) else TokenError(f"the {name} is no JSON") from None
    if not isinstance(document, dict):
        raise TokenError(f"the {name} is no JSON object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise TokenError("a member of the JSON comes twice")
    return document


def _no_constant(name: str) -> None:
    raise TokenError(f"{name} is no JSON")


def _decoded(part: str, name: str) -> bytes:
    """RFC 7515, section 2: base64url without padding."""
    if _PART.fullmatch(part) is None or len(part) % 4 == 1:
        raise TokenError(f"the {name} is no base64url")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
