"""tcp-logger and udp-logger: entries as lines over TCP, or one in each datagram."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from shared.plugin.builtin.logger import BatchConfig, Logger, Some
from shared.plugin.builtin.sockets import client_context, send_datagrams, send_stream
from shared.schema.common import Maybe, Text

Host = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class TcpLoggerConfig(BatchConfig):
    """`timeout` in milliseconds; `tls_options` is the name that the certificate must have, in the place of `host`."""

    host: Host
    port: Port
    tls: bool = False
    tls_options: Maybe[Text] = None
    ssl_verify: bool = True
    timeout: Some = 1000
    name: Text = "tcp logger"


class TcpLogger(Logger[TcpLoggerConfig]):
    name = "tcp-logger"
    priority = 405
    Config = TcpLoggerConfig

    async def send(self, entries: Sequence[bytes]) -> None:
        config = self.config
        tls = await asyncio.to_thread(client_context, config.ssl_verify) if config.tls else None
        data = b"".join(entry + b"\n" for entry in entries)
        await send_stream(config.host, config.port, data, config.timeout / 1000, tls, config.tls_options or "")


class UdpLoggerConfig(BatchConfig):
    """`timeout` in seconds."""

    host: Host
    port: Port
    timeout: Some = 3
    name: Text = "udp logger"


class UdpLogger(Logger[UdpLoggerConfig]):
    name = "udp-logger"
    priority = 400
    Config = UdpLoggerConfig

    async def send(self, entries: Sequence[bytes]) -> None:
        await send_datagrams(self.config.host, self.config.port, entries, self.config.timeout)
