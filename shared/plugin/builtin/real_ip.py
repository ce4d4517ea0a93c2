"""real-ip: the client's address as a proxy in front of this gateway tells it.

The law: it is believed only where `trusted_addresses` has the peer, if there are such; what is no address changes nothing. From
then on the address is the client's for plugins and in X-Real-IP. The last element of X-Forwarded-For is this gateway's own.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from shared.expression.addresses import AddressSet, parse_network
from shared.expression.variables import find_reader
from shared.plugin.fields import Addresses, refused
from shared.plugin.plugin import Plugin
from shared.plugin.request import Request
from shared.schema.common import Maybe, Spec

_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([0-9.]+):([0-9]{1,5})")
FORWARDED_FOR = "http_x_forwarded_for"


def _variable(name: str) -> str:
    try:
        find_reader(name, True)
    except ValueError as error:
        raise refused(str(error)) from None
    if name.startswith("post_arg"):
        raise refused("the request's body is not here yet when this is used")
    return name


class RealIpConfig(Spec):
    source: Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_variable)]
    trusted_addresses: Maybe[Addresses] = None
    recursive: bool = False


class RealIp(Plugin[RealIpConfig]):
    name = "real-ip"
    priority = 23000
    Config = RealIpConfig

    def __init__(self, config: RealIpConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._trusted = None if config.trusted_addresses is None else AddressSet(config.trusted_addresses)
        self._read = find_reader(config.source, True)

    def rewrite(self, request: Request) -> None:
        if self._trusted is not None and request.client_ip not in self._trusted:
            return
        told = self._told(request)
        address = None if told is None else _address(told)
        if address is None:
            return
        request.client_address = (address[0], address[1] or request.client_address[1])
        request.set_header("X-Real-IP", address[0])

    def _told(self, request: Request) -> str | None:
        if self.config.source != FORWARDED_FOR:
            value = self._read(request.variables)
            return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else None
        hops = [hop.strip() for line in request.header_values("x-forwarded-for") for hop in line.split(",")]
        # Without this gateway's own.
        hops = [hop for hop in hops[:-1] if hop]
        if not hops:
            return None
        if self.config.recursive and self._trusted is not None:
            for hop in reversed(hops):
                address = _address(hop)
                if address is None or address[0] not in self._trusted:
                    return hop
            return hops[0]
        return hops[-1]


def _address(text: str) -> tuple[str, int] | None:
    """Address and port, 0 where none is said."""
    found = _WITH_PORT.fullmatch(text)
    host, port = text, 0
    if found is not None:
        host, port = found[1] or found[3], int(found[2] or found[4] or 0)
    if "/" in host or port > 65535:
        return None
    try:
        network = parse_network(host)
    except ValueError:
        return None
    return str(network.network_address), port
