"""What an operator may tune in a data plane: times, counts and sizes, by name in the settings file or as variables.

The law: one row says all of a name: its default, what it may be, and what it is for. They are read when a worker starts, never
for a request. Names are nginx's and APISIX's where those have one.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from shared.networks import parse_networks

HOUR = 3600.0
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15}) ?(|KiB|MiB|GiB)")


@dataclass(frozen=True, slots=True)
class Tuning:
    """Seconds, counts and bytes. 0 is none for `drain_delay`, `stuck_after`, `memory_limit`, `client_body_min_rate` and
    `client_max_body_size`."""

    # Kubernetes gives a pod 30 s between SIGTERM and SIGKILL, `waspgate up` gives its planes 40 s.
    grace: float = 30.0
    drain_delay: float = 0.0
    # A loop that stands still for so long serves nobody. A large configuration is compiled beside it.
    stuck_after: float = 30.0
    # One stream costs up to about 64 KiB a direction, so 10 000 busy ones stay near 1.3 GiB.
    max_connections: int = 10_000
    memory_limit: int = 0
    # nginx's defaults, but for the head: 10 s frees the slot of a slow sender sooner and is ample for 32 KiB.
    client_header_timeout: float = 10.0
    client_body_timeout: float = 60.0
    # Bytes a second of a body of known length, over half a minute. Kestrel asks for 240.
    client_body_min_rate: int = 100
    # As in APISIX there is none unless it is set. Of what a gateway holds, a body is never more than a few pieces.
    client_max_body_size: int = 0
    send_timeout: float = 60.0
    keepalive_timeout: float = 75.0
    # A bound on what one connection may hold on to, and on uneven spread over workers.
    keepalive_requests: int = 10_000
    control_hosts: tuple[str, ...] = ()
    # Proxies in front of the gateway, and what they say. Nobody is trusted unless he is named.
    trusted_addresses: tuple[str, ...] = ()
    real_ip_header: str = "X-Forwarded-For"
    proxy_protocol: bool = False
    # As OpenSSL lists them, for TLS 1.2 and 1.1; empty: Python's choice, which is forward secret and authenticated.
    ssl_ciphers: str = ""
    # Whether a client in the clear may begin with HTTP/2 at once.
    h2c: bool = False
    # Of upstreams: who tells their addresses, who vouches for them, and whether they are checked.
    dns_resolver: tuple[str, ...] = ()
    ssl_trusted_certificate: str = ""
    disable_upstream_healthcheck: bool = False
    # What a secret manager said is asked for again after so long; APISIX's figure.
    secret_ttl: float = 300.0
    # Of every response, or of 5xx only.
    show_upstream_status_in_response_header: bool = False


def seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not low <= found <= high:
            raise ValueError(f"expected seconds from {low:g} to {high:g}, got {text!r}")
        return found

    return read


def count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 12 or not low <= int(text) <= high:
            raise ValueError(f"expected a number from {low} to {high}, got {text!r}")
        return int(text)

    return read


def size(low: int) -> Callable[[str], int]:
    """Bytes; 0, or at least `low`."""

    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise ValueError(f"expected bytes, as 512MiB or 2GiB, got {text!r}")
        size = int(found[1]) * _UNITS[found[2]]
        if 0 < size < low:
            raise ValueError(f"expected 0 (none) or at least {low} bytes, got {text!r}")
        return size

    return read


def one_of(*names: str) -> Callable[[str], str]:
    """A name in any case; the result is as it is written here."""
    known = {name.lower(): name for name in names}

    def read(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"expected {' or '.join(names)}, got {text!r}")
        return known[text.lower()]

    return read


def flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def _ciphers(text: str) -> str:
    if text:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
        except ssl.SSLError:
            raise ValueError(f"expected ciphers as OpenSSL lists them, with colons between, got {text!r}") from None
    return text


def _hosts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if not re.fullmatch(r"[a-z0-9._-]{1,253}", name):
            raise ValueError(f"expected names of hosts without ports, got {name!r}")
    return names


def _dns_servers(text: str) -> tuple[str, ...]:
    """Each with its port."""
    return tuple(_dns_server(part.strip()) for part in text.split(",") if part.strip())


def _dns_server(text: str) -> str:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "53")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise ValueError(f"expected addresses of DNS servers, as 10.0.0.2 or 10.0.0.2:5353, got {text!r}") from error
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {text!r}")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _authorities(text: str) -> str:
    if text:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"expected a file with certificates of authorities (PEM), {text!r}: {error}") from error
    return text


READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "grace": seconds(0, HOUR),
        "drain_delay": seconds(0, HOUR),
        "stuck_after": seconds(0, HOUR),
        "max_connections": count(1, 1_000_000),
        # Below this a worker is over its limit before it has served anybody.
        "memory_limit": size(128 << 20),
        "client_header_timeout": seconds(0.1, HOUR),
        "client_body_timeout": seconds(0.1, HOUR),
        "client_body_min_rate": count(0, 1_000_000),
        "client_max_body_size": size(1),
        "send_timeout": seconds(0.1, HOUR),
        "keepalive_timeout": seconds(1, HOUR),
        "keepalive_requests": count(1, 1_000_000_000),
        "control_hosts": _hosts,
        "trusted_addresses": lambda text: tuple(map(str, parse_networks(text))),
        "real_ip_header": one_of("X-Forwarded-For", "X-Real-IP"),
        "proxy_protocol": flag,
        "ssl_ciphers": _ciphers,
        "h2c": flag,
        "dns_resolver": _dns_servers,
        "ssl_trusted_certificate": _authorities,
        "disable_upstream_healthcheck": flag,
        "secret_ttl": seconds(1, 24 * HOUR),
        "show_upstream_status_in_response_header": flag,
    }
)

NAMES = tuple(field.name for field in fields(Tuning))
