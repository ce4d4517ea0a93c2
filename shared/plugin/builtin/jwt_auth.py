"""jwt-auth: a consumer by the JSON Web Token that it has signed.

The law: the token names a consumer, the consumer's key says how the token is checked, and only then is anything in it believed.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from shared.plugin.builtin.authentication import AuthConfig, Authentication, Realm
from shared.plugin.credentials import remove_argument, remove_cookie
from shared.plugin.fields import HeaderName, refused
from shared.plugin.jwt import ALL_CLAIMS, Algorithm, Claim, TokenError, Verifier, check_times, decode_secret, read_token
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import MAX_INT, Maybe, Spec, Text, UniqueArray
from shared.secrets.references import is_reference

# Where the claims of a request's token are in `Request.context`, when that is asked for.
PAYLOAD = "jwt_auth_payload"
_BEARER = "bearer "


class JwtAuthConfig(AuthConfig):
    """Where a token may be: in a header, an argument of the query, a cookie; the first of them that is there counts."""

    header: HeaderName = "authorization"
    query: Text = "jwt"
    cookie: Text = "jwt"
    key_claim_name: Text = "key"
    store_in_ctx: bool = False
    claims_to_verify: UniqueArray[Claim] = ALL_CLAIMS
    realm: Realm = "jwt"


class JwtAuthConsumer(Spec):
    """`exp` is how long tokens live that are made for this consumer: nothing here makes any."""

    key: Text
    secret: Maybe[Text] = None
    public_key: Maybe[Text] = None
    algorithm: Algorithm = "HS256"
    exp: Annotated[int, Field(ge=1, le=MAX_INT)] = 86400
    base64_secret: bool = False
    lifetime_grace_period: Annotated[int, Field(ge=0, le=MAX_INT)] = 0

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        name = "secret" if self.algorithm.startswith("HS") else "public_key"
        material = getattr(self, name)
        if material is None:
            raise refused(f'property "{name}" is required when "algorithm" is "{self.algorithm}"')
        # What a reference stands for is known to workers only.
        if not is_reference(material):
            try:
                self._verifier()
            except ValueError as error:
                raise refused(str(error)) from None
        return self

    @cached_property
    def verifier(self) -> Verifier:
        return self._verifier()

    def _verifier(self) -> Verifier:
        if self.algorithm.startswith("HS"):
            return Verifier(self.algorithm, decode_secret(self.secret or "", self.base64_secret))
        return Verifier(self.algorithm, (self.public_key or "").encode())


class JwtAuth(Authentication[JwtAuthConfig]):
    name = "jwt-auth"
    priority = 2510
    scheme = "Bearer"
    Config = JwtAuthConfig
    Consumer = JwtAuthConsumer
    encrypted: ClassVar[tuple[str, ...]] = ("secret",)
    clock = staticmethod(time.time)

    def __init__(self, config: JwtAuthConfig, metadata: object = None) -> None:
        super().__init__(config)
        # Claims that were named have to be there.
        self._needed = "claims_to_verify" in config.model_fields_set

    @classmethod
    def consumer_key(cls, consumer: JwtAuthConsumer) -> str:
        return consumer.key

    def rewrite(self, request: Request) -> Reply | None:
        found = self._find(request)
        if found is None:
            return self.refused(request, "Missing JWT token in request")
        text, place = found
        try:
            token = read_token(text)
        except TokenError:
            return self.refused(request, "JWT token invalid")
        key = token.claims.get(self.config.key_claim_name)
        if key is None:
            return self.refused(request, "missing user key in JWT token")
        consumer = self.consumer_of(key) if isinstance(key, str) else None
        if consumer is None:
            return self.refused(request, "Invalid user key in JWT token")
        part: JwtAuthConsumer = consumer.auth
        try:
            part.verifier.verify(token)
            leeway = part.lifetime_grace_period
            check_times(token.claims, self.config.claims_to_verify, self.clock(), leeway, self._needed)
        except ValueError:
            return self.refused(request, "failed to verify jwt")
        if self.config.hide_credentials:
            self._hide(request, place)
        if self.config.store_in_ctx:
            claims: dict[str, Any] = token.claims
            request.context[PAYLOAD] = claims
        request.attach_consumer(consumer)
        return None

    def _find(self, request: Request) -> tuple[str, str] | None:
        """The token, and where it stands. Two headers are none: the upstream might believe the other one."""
        config = self.config
        values = request.header_values(config.header)
        if values:
            value = values[0] if len(values) == 1 else ""
            return (value[len(_BEARER) :].lstrip() if value[: len(_BEARER)].lower() == _BEARER else value), "header"
        argument = request.argument(config.query)
        if argument is not None:
            return argument, "query"
        cookie = request.cookie(config.cookie)
        return None if cookie is None else (cookie, "cookie")

    def _hide(self, request: Request, place: str) -> None:
        if place == "header":
            request.remove_header(self.config.header)
        elif place == "query":
            remove_argument(request, self.config.query)
        else:
            remove_cookie(request, self.config.cookie)
