"""key-auth: a consumer by a key that it sends, in a header or in the query.

The law: a header of the name counts, whatever the query says; two of them are none, as the upstream might believe the other.
"""

from __future__ import annotations

from typing import ClassVar

from shared.plugin.builtin.authentication import AuthConfig, Authentication, Realm
from shared.plugin.credentials import remove_argument
from shared.plugin.fields import HeaderName
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Spec, Text


class KeyAuthConfig(AuthConfig):
    header: HeaderName = "apikey"
    query: Text = "apikey"
    realm: Realm = "key"


class KeyAuthConsumer(Spec):
    key: Text


class KeyAuth(Authentication[KeyAuthConfig]):
    name = "key-auth"
    priority = 2500
    scheme = "apikey"
    Config = KeyAuthConfig
    Consumer = KeyAuthConsumer
    encrypted: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, config: KeyAuthConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._header = config.header
        self._hides = config.hide_credentials

    @classmethod
    def consumer_key(cls, consumer: KeyAuthConsumer) -> str:
        return consumer.key

    def rewrite(self, request: Request) -> Reply | None:
        values = request.header_values(self._header)
        if values:
            key: str | None = values[0] if len(values) == 1 else ""
        else:
            key = request.argument(self.config.query)
            if key is None:
                return self.refused(request, "Missing API key in request")
        consumers = self._consumers
        consumer = consumers.get(key) if key and consumers is not None else None
        if consumer is None:
            return self.refused(request, "Invalid API key in request")
        if self._hides:
            if values:
                request.remove_header(self._header)
            else:
                remove_argument(request, self.config.query)
        request.attach_consumer(consumer)
        return None
