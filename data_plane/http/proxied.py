"""Connections that begin with a header of the PROXY protocol: it is read, and the protocol behind it believes what it says.

The law: from a trusted address a connection must begin with one, and is refused without; from any other a connection is its
client's own, and a header in it is nonsense like any other. So nobody chooses his own address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import structlog

from data_plane.http import limits
from data_plane.http.proxy_protocol import NotAProxyHeader, ProxyHeader, parse_header
from data_plane.http.timers import Deadline

if TYPE_CHECKING:
    from data_plane.http.listener import Gateway

log = structlog.get_logger(__name__)


T = TypeVar("T")


def proxied(gateway: Gateway, make: Callable[[T], object]) -> Callable[[T], asyncio.Protocol]:
    """What makes connections, for those that come through proxies."""
    return lambda owner: ProxiedConnection(gateway, lambda: make(owner))


class ProxiedConnection(asyncio.Protocol):
    """One of the gateway's clients until it knows who its client is. `make` makes the protocol that goes on."""

    busy = 0

    def __init__(self, gateway: Gateway, make: Callable[[], object]) -> None:
        self._gateway = gateway
        self._make = make
        self._buffer = b""
        self._transport: asyncio.Transport
        self._deadline = Deadline(gateway.loop, self.stop)

    def __repr__(self) -> str:
        return f"<ProxiedConnection {self._buffer!r}>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        gateway = self._gateway
        # When there are too many, the protocol behind says so, or whatever else there is to say.
        if len(gateway.clients) < gateway.limit and gateway.trust.covers(peer[0]):
            gateway.clients.add(self)
            self._deadline.set(limits.DRAIN_IDLE_SECONDS if gateway.draining else limits.HEAD_SECONDS)
        else:
            self._become(self._transport, b"")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            header = parse_header(self._buffer)
        except NotAProxyHeader as error:
            # Trusted, so worth a line each time: somebody has configured something wrong.
            log.warning("no PROXY header from a trusted address", peer=self._peer(), reason=str(error))
            self.stop()
            return
        if header is not None:
            self._leave()
            transport = cast(asyncio.Transport, _Proxied(self._transport, header)) if header.source else self._transport
            self._become(transport, self._buffer[header.size :])

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()
        self._gateway.dismiss(self)

    def _become(self, transport: asyncio.Transport, data: bytes) -> None:
        protocol = cast(asyncio.Protocol, self._make())
        self._transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data:
            protocol.data_received(data)

    def _leave(self) -> None:
        self._deadline.close()
        self._gateway.clients.discard(self)

    def _peer(self) -> str:
        return str((self._transport.get_extra_info("peername") or ("",))[0])

    # What the gateway asks of a client.

    @property
    def stays(self) -> bool:
        return self in self._gateway.clients

    def sweep(self, idle_sweeps: int, held_sweeps: int) -> None:
        """The deadline sees to it."""

    def drain(self) -> None:
        """Its header may be on its way."""
        self._deadline.set(limits.DRAIN_IDLE_SECONDS)

    def stop(self) -> None:
        self._transport.abort()


class _Proxied:
    """A transport with other addresses; all it does is the socket's transport's own."""

    def __init__(self, transport: asyncio.Transport, header: ProxyHeader) -> None:
        self._transport = transport
        self._addresses = {"peername": header.source, "sockname": header.destination}
        self.abort = transport.abort
        self.can_write_eof = transport.can_write_eof
        self.close = transport.close
        self.get_protocol = transport.get_protocol
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.is_closing = transport.is_closing
        self.is_reading = transport.is_reading
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol
        self.set_write_buffer_limits = transport.set_write_buffer_limits
        self.write = transport.write
        self.write_eof = transport.write_eof
        self.writelines = transport.writelines

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as in asyncio
        return self._addresses.get(name) or self._transport.get_extra_info(name, default)
