"""A log line for each time that TLS with an upstream failed: which server, under which name, and why.

The law: the line names what an operator can change, and so many a second are written at most.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

import structlog

from data_plane.observe.log_rate import LogRate

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node
    from data_plane.upstream_tls.client_tls import ClientTls

log = structlog.get_logger("upstream")

LINES_PER_SECOND = 5


class TlsFailureLog:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._rate = LogRate(LINES_PER_SECOND, loop, self._dropped)

    def __call__(self, node: Node, tls: ClientTls, error: OSError) -> None:
        if self._rate.admits():
            log.warning(
                "TLS with upstream failed",
                node=f"{node.host}:{node.port}",
                server_name=tls.name_for(node),
                verify=tls.verify,
                client_certificate=bool(tls.certificate or tls.certificate_id),
                reason=reason_of(error),
            )

    def _dropped(self, lines: int) -> None:
        log.warning("more TLS with upstreams failed", failures=lines)


def reason_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return os.strerror(error.errno).lower() if error.errno else str(error)
