"""basic-auth: a consumer by its name and password (RFC 7617).

The law: credentials are UTF-8, and only the first colon parts them: a password may have others. Who the request says it is from
does not show in the time that a refusal takes: an unknown name is compared with a password as well.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import ClassVar

from shared.plugin.builtin.authentication import AuthConfig, Authentication, Realm
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Spec, Text

_SCHEME = "basic "
# Compared with where there is no consumer: nobody's password.
_NOBODY = b"\x00" * 16


class BasicAuthConfig(AuthConfig):
    realm: Realm = "basic"


class BasicAuthConsumer(Spec):
    username: Text
    password: Text


class BasicAuth(Authentication[BasicAuthConfig]):
    name = "basic-auth"
    priority = 2520
    scheme = "Basic"
    Config = BasicAuthConfig
    Consumer = BasicAuthConsumer
    encrypted: ClassVar[tuple[str, ...]] = ("password",)

    @classmethod
    def consumer_key(cls, consumer: BasicAuthConsumer) -> str:
        if ":" in consumer.username:
            raise ValueError('a user name with ":" cannot be sent: a colon ends the name')
        return consumer.username

    def rewrite(self, request: Request) -> Reply | None:
        values = request.header_values("authorization")
        if not values:
            return self.refused(request, "Missing authorization in request")
        said = _read(values[0]) if len(values) == 1 else None
        if said is None:
            return self.refused(request, "Invalid authorization in request")
        username, password = said
        consumer = self.consumer_of(username)
        wanted = _NOBODY if consumer is None else consumer.auth.password.encode()
        if not hmac.compare_digest(password, wanted) or consumer is None:
            return self.refused(request, "Invalid user authorization")
        if self.config.hide_credentials:
            request.remove_header("authorization")
        request.attach_consumer(consumer)
        return None


def _read(value: str) -> tuple[str, bytes] | None:
    """Name and password; None where the field has none."""
    if value[: len(_SCHEME)].lower() != _SCHEME:
        return None
    try:
        name, colon, password = base64.b64decode(value[len(_SCHEME) :].strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
