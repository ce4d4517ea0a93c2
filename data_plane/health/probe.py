"""One probe of one node: a connection, and for HTTP a request of which only the status is read.

The law: a probe never raises and never outlives its time; what it found is one outcome, and the connection is gone.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from data_plane.balance.health import TCP_FAILURE, TIMEOUT
from data_plane.health.checks import CONNECTED, NO_HTTP, Probing
from data_plane.upstream_tls.client_tls import host_of
from data_plane.upstream_tls.failures import reason_of

# A status line is short; what comes without an end is no HTTP.
_LINE_BYTES = 4096
_STATUS_LINE = re.compile(rb"HTTP/\d+\.\d+[ \t]+(\d{3})(?:[^\d].*)?", re.DOTALL)

Contexts = Callable[[], Awaitable[ssl.SSLContext]]


@dataclass(frozen=True, slots=True)
class Finding:
    """`reason` is for the log, empty where the outcome says it all."""

    outcome: int
    reason: str = ""


async def probe(probing: Probing, address: str, port: int, host: str, context: Contexts) -> Finding:
    """`host` is asked for and, with https, proven; `context` is asked only for https."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(probing.timeout):
            secured = await context() if probing.type == "https" else None
            reader, writer = await asyncio.open_connection(
                address, port, ssl=secured, server_hostname=host_of(host) if secured else None, limit=_LINE_BYTES
            )
            if probing.type == "tcp":
                return Finding(CONNECTED)
            writer.write(request_of(probing, host))
            return _read(await reader.readline())
    except TimeoutError:
        return Finding(TIMEOUT)
    # Before ValueError: a certificate that is not accepted is both.
    except OSError as error:
        return Finding(TCP_FAILURE, reason_of(error))
    except ValueError:
        # A line without an end; or a name that cannot even be asked for.
        return Finding(NO_HTTP if writer is not None else TCP_FAILURE, "neither a status line nor a name")
    finally:
        if writer is not None:
            writer.transport.abort()


def request_of(probing: Probing, host: str) -> bytes:
    names = {line.partition(":")[0].lower() for line in probing.fields}
    lines = [f"{probing.method} {probing.path} HTTP/1.1", "Connection: close", *probing.fields]
    if "host" not in names:
        lines.append(f"Host: {host}")
    if probing.body:
        lines.append(f"Content-Length: {len(probing.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + probing.body


def _read(line: bytes) -> Finding:
    if not line:
        return Finding(TCP_FAILURE, "closed without an answer")
    match = _STATUS_LINE.fullmatch(line)
    return Finding(int(match[1])) if match else Finding(NO_HTTP, "no HTTP status line")
