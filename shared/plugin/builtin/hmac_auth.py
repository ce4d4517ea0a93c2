"""hmac-auth: a consumer by a signature over parts of the request, with a secret that both sides have.

    Authorization: Signature keyId="KEY",algorithm="hmac-sha256",headers="@request-target date",signature="BASE64"

What is signed: the key's id, then for each name in `headers` a line: `METHOD TARGET` for `@request-target`, else `name: value`;
each line ends with a line feed (APISIX 3.x, after draft-cavage-http-signatures).

The law: what was not signed proves nothing. The date that says how old a request is has to be among what is signed, or an old
signature would live as long as somebody writes new dates; of a header that is signed every value is, or the upstream might read
another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.plugin.body import WholeBody
from shared.plugin.builtin.authentication import AuthConfig, Authentication, Realm
from shared.plugin.consumer import Consumer as Caller
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import MAX_INT, Array, Spec

Algorithm = Literal["hmac-sha1", "hmac-sha256", "hmac-sha512"]
_DIGESTS = {"hmac-sha1": hashlib.sha1, "hmac-sha256": hashlib.sha256, "hmac-sha512": hashlib.sha512}
_TARGET = "@request-target"
# Of a field that names at most as many headers as a request may have.
_FIELD = re.compile(r'\s*(keyId|algorithm|signature|headers)="([^"]{0,4096})"\s*')
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFUSAL = "client request can't be validated"
_LARGEST_BODY = 64 * 1024 * 1024

HeaderToSign = Annotated[str, Field(min_length=1, max_length=50)]
Credential = Annotated[str, Field(min_length=1, max_length=256)]


class HmacAuthConfig(AuthConfig):
    """`clock_skew` in seconds, to both sides; `max_req_body_size` in bytes, for `validate_request_body`."""

    allowed_algorithms: Annotated[Array[Algorithm], Field(min_length=1)] = ("hmac-sha1", "hmac-sha256", "hmac-sha512")
    clock_skew: Annotated[int, Field(ge=1, le=MAX_INT)] = 300
    signed_headers: Array[HeaderToSign] = ("date",)
    validate_request_body: bool = False
    max_req_body_size: Annotated[int, Field(ge=1, le=MAX_INT)] = _LARGEST_BODY
    realm: Realm = "hmac"


class HmacAuthConsumer(Spec):
    key_id: Credential
    secret_key: Credential


class SignatureError(ValueError):
    """The message is told to the client only where it is about the form of what it sent."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What an Authorization header says. `headers` are the names as they were written."""

    key_id: str
    algorithm: str
    headers: tuple[str, ...]
    signature: bytes


def read_signature(values: list[str]) -> Signature:
    """Raises SignatureError."""
    if not values:
        raise SignatureError("missing Authorization header")
    scheme, _, rest = values[0].partition(" ")
    if scheme != "Signature":
        raise SignatureError("Authorization header does not start with 'Signature'")
    fields: dict[str, str] = {}
    for part in rest.split(","):
        match = _FIELD.fullmatch(part)
        if match is not None and match[1] in fields:
            raise SignatureError(f"{match[1]} comes twice")
        if match is not None:
            fields[match[1]] = match[2]
    if len(values) > 1 or not fields.get("keyId") or not fields.get("signature"):
        raise SignatureError("keyId or signature missing")
    if not fields.get("algorithm"):
        raise SignatureError("algorithm missing")
    try:
        signature = base64.b64decode(fields["signature"], validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError("signature is not base64") from None
    return Signature(fields["keyId"], fields["algorithm"], tuple(fields.get("headers", "").split()), signature)


def signing_string(request: Request, key_id: str, headers: tuple[str, ...]) -> bytes:
    """What has to be signed. A header that is not there adds no line, as in APISIX; one that comes twice has two."""
    lines = [key_id]
    for name in headers:
        if name.lower() == _TARGET:
            lines.append(f"{request.method} {request.asked_target}")
            continue
        lines += [f"{name}: {value}" for value in (request.header_values(name) if _is_name(name) else ())]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


class HmacAuth(Authentication[HmacAuthConfig]):
    name = "hmac-auth"
    priority = 2530
    scheme = "hmac"
    Config = HmacAuthConfig
    Consumer = HmacAuthConsumer
    encrypted: ClassVar[tuple[str, ...]] = ("secret_key",)
    clock = staticmethod(time.time)

    def __init__(self, config: HmacAuthConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._signed = tuple(name.lower() for name in config.signed_headers)
        self._algorithms = frozenset(config.allowed_algorithms)

    @classmethod
    def consumer_key(cls, consumer: HmacAuthConsumer) -> str:
        return consumer.key_id

    def rewrite(self, request: Request) -> Reply | WholeBody | None:
        try:
            signature = read_signature(request.header_values("authorization"))
        except SignatureError as error:
            return self.refused(request, f"{_REFUSAL}: {error}")
        try:
            consumer = self._validated(request, signature)
        except SignatureError:
            return self.refused(request, _REFUSAL)
        if not self.config.validate_request_body:
            self._accept(request, consumer)
            return None

        def then(request: Request, body: bytes) -> Reply | Awaitable[Reply | None] | None:
            if not _has_digest(request, body):
                return self.refused(request, _REFUSAL)
            self._accept(request, consumer)
            return None

        return WholeBody(self.config.max_req_body_size, then)

    def _validated(self, request: Request, signature: Signature) -> Caller:
        """Whose signature it is. Raises SignatureError."""
        consumer = self.consumer_of(signature.key_id)
        if consumer is None:
            raise SignatureError("unknown keyId")
        if signature.algorithm not in self._algorithms:
            raise SignatureError("invalid algorithm")
        names = {name.lower() for name in signature.headers}
        self._check_date(request, names)
        if not all(name in names or (name == "date" and "x-date" in names) for name in self._signed):
            raise SignatureError("a header that must be signed is not")
        text = signing_string(request, signature.key_id, signature.headers)
        part: HmacAuthConsumer = consumer.auth
        expected = hmac.digest(part.secret_key.encode(), text, _DIGESTS[signature.algorithm])
        if not hmac.compare_digest(expected, signature.signature):
            raise SignatureError("invalid signature")
        return consumer

    def _check_date(self, request: Request, signed: set[str]) -> None:
        name = "date" if request.header("date") is not None else "x-date"
        value = request.header(name)
        if value is None or name not in signed:
            raise SignatureError("a signed date is missing")
        try:
            # Without a zone it would be the time of wherever this runs.
            sent = parsedate_to_datetime(value if value.endswith("GMT") else "").timestamp()
        except (ValueError, TypeError, OverflowError):
            raise SignatureError("invalid date") from None
        if abs(self.clock() - sent) > self.config.clock_skew:
            raise SignatureError("clock skew exceeded")

    def _accept(self, request: Request, consumer: Caller) -> None:
        if self.config.hide_credentials:
            request.remove_header("authorization")
        request.attach_consumer(consumer)


def _has_digest(request: Request, body: bytes) -> bool:
    """Digest: SHA-256=BASE64 (RFC 3230), once."""
    values = request.header_values("digest")
    expected = "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()
    return len(values) == 1 and hmac.compare_digest(values[0].encode("utf-8", "surrogateescape"), expected.encode())


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
