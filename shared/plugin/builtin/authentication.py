"""What the plugins that tell consumers have in common: whose the request is then, and how it is refused.

The law: the consumer is attached, or the request ends in 401 with the scheme to use, or is an anonymous consumer's if the
operator has named one. What is wrong is told in the words of APISIX, which no guess gets anything from; credentials leave the
request only when they were right.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from shared.plugin.consumer import Consumer, ConsumerTable
from shared.plugin.host import Host
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Maybe, Spec

# A quoted-string (RFC 9110, section 5.6.4) without anything to escape.
Realm = Annotated[str, Field(min_length=1, max_length=128, pattern=r'^[^"\\\x00-\x1f\x7f]+$')]
Username = Annotated[str, Field(min_length=1, max_length=256)]


class AuthConfig(Spec):
    hide_credentials: bool = False
    anonymous_consumer: Maybe[Username] = None
    realm: Realm


C = TypeVar("C", bound=AuthConfig)


class Authentication(Plugin[C]):
    """Base. `scheme` is the authentication scheme in WWW-Authenticate."""

    kind: ClassVar[Literal["", "auth"]] = "auth"
    scheme: ClassVar[str]
    _consumers: ConsumerTable | None = None

    def __init__(self, config: C, metadata: object = None) -> None:
        super().__init__(config)
        self._challenge = (("WWW-Authenticate", f'{self.scheme} realm="{config.realm}"'),)

    def attach(self, host: Host) -> None:
        self._consumers = host.consumers(self.name)

    def consumer_of(self, key: str) -> Consumer | None:
        return None if self._consumers is None else self._consumers.get(key)

    def refused(self, request: Request, message: str) -> Reply | None:
        """None when the request is an anonymous consumer's."""
        if self.config.anonymous_consumer is not None:
            anonymous = None if self._consumers is None else self._consumers.named(self.config.anonymous_consumer)
            if anonymous is not None:
                request.attach_consumer(anonymous)
                return None
            message = "Invalid user authorization"
        return Reply(401, {"message": message}, self._challenge)
