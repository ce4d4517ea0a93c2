"""syslog: entries as messages of RFC 5424, over TCP or UDP."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from shared.plugin.batch import BatchLimits
from shared.plugin.builtin.logger import BatchConfig, Logger, Some
from shared.plugin.builtin.sockets import client_context, send_datagrams, send_stream
from shared.plugin.builtin.tcp_logger import Host, Port
from shared.plugin.request import Request, Response
from shared.schema.common import Text

# Facility 5 (messages of the logging itself), severity 6 (informational), as APISIX has them.
_PRIORITY = 5 * 8 + 6
_HOSTNAME = "".join(character for character in platform.node() if "!" <= character <= "~")[:255] or "-"


class SyslogConfig(BatchConfig):
    """`timeout` in milliseconds. A batch leaves at `flush_limit` bytes, and what waits has `drop_limit` at most. `pool_size`
    changes nothing: each batch has a connection of its own."""

    host: Host
    port: Port
    sock_type: Literal["tcp", "udp"] = "tcp"
    tls: bool = False
    ssl_verify: bool = True
    timeout: Some = 3000
    flush_limit: Some = 4096
    drop_limit: Some = 1_048_576
    pool_size: Some = 5
    name: Text = "sys logger"

    def limits(self, max_pending: int) -> BatchLimits:
        limits = super().limits(max_pending)
        return BatchLimits(
            limits.max_size,
            limits.inactive_timeout,
            limits.buffer_duration,
            limits.max_retry_count,
            limits.retry_delay,
            max_pending,
            self.flush_limit,
            self.drop_limit,
        )


class Syslog(Logger[SyslogConfig]):
    name = "syslog"
    priority = 401
    Config = SyslogConfig

    def _encoded(self, request: Request, response: Response | None) -> bytes:
        return message(super()._encoded(request, response), datetime.now(UTC))

    async def send(self, entries: Sequence[bytes]) -> None:
        config = self.config
        seconds = config.timeout / 1000
        if config.sock_type == "udp":
            await send_datagrams(config.host, config.port, entries, seconds)
            return
        tls = await asyncio.to_thread(client_context, config.ssl_verify) if config.tls else None
        # RFC 6587, section 3.4.2: a line feed ends a message.
        await send_stream(config.host, config.port, b"".join(entry + b"\n" for entry in entries), seconds, tls, "")


def message(text: bytes, now: datetime) -> bytes:
    """RFC 5424, section 6."""
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<{_PRIORITY}>1 {stamp} {_HOSTNAME} waspgate {os.getpid()} - - ".encode() + text
