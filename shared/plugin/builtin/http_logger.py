"""http-logger: entries as the bodies of HTTP requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from shared.plugin.batch import DeliveryFailed
from shared.plugin.builtin.logger import BatchConfig, Logger, Some
from shared.plugin.fields import HeaderValue, HttpUrl
from shared.schema.common import Text


class HttpLoggerConfig(BatchConfig):
    """`timeout` in seconds."""

    uri: HttpUrl
    auth_header: HeaderValue = ""
    timeout: Some = 3
    concat_method: Literal["json", "new_line"] = "json"
    ssl_verify: bool = False
    name: Text = "http logger"


class HttpLogger(Logger[HttpLoggerConfig]):
    name = "http-logger"
    priority = 410
    Config = HttpLoggerConfig
    encrypted: ClassVar[tuple[str, ...]] = ("auth_header",)

    async def send(self, entries: Sequence[bytes]) -> None:
        assert self._host is not None
        config = self.config
        if config.concat_method == "new_line":
            body, kind = b"\n".join(entries), "text/plain"
        else:
            body, kind = entries[0] if config.batch_max_size == 1 else b"[%b]" % b",".join(entries), "application/json"
        headers = [("Content-Type", kind)]
        if config.auth_header:
            headers.append(("Authorization", config.auth_header))
        answer = await self._host.fetch(
            "POST", config.uri, headers=headers, body=body, seconds=config.timeout, verify=config.ssl_verify
        )
        if answer.status >= 400:
            raise DeliveryFailed(f"the server answered {answer.status}")
