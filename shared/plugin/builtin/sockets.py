"""Where loggers send bytes to that speak no HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import lru_cache

# UDP has room for so many bytes in a datagram (over IPv4).
DATAGRAM_BYTES = 65_507


async def send_stream(host: str, port: int, data: bytes, seconds: float, tls: ssl.SSLContext | None, name: str) -> None:
    """Over a connection of its own, which is closed when the other side has all of it. `name` is that of its certificate."""
    async with asyncio.timeout(seconds):
        _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=(name or host) if tls else None)
        try:
            writer.write(data)
            await writer.drain()
        finally:
            writer.close()
        await writer.wait_closed()


async def send_datagrams(host: str, port: int, datagrams: Iterable[bytes], seconds: float) -> None:
    """One for each; nobody says whether they came. Raises ValueError for one that is too long."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, port))
    try:
        for datagram in datagrams:
            if len(datagram) > DATAGRAM_BYTES:
                raise ValueError(f"an entry of {len(datagram)} bytes does not fit into a datagram")
            transport.sendto(datagram)
    finally:
        transport.close()


@lru_cache(maxsize=2)
def client_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
