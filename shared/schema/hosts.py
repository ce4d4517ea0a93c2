"""Names of hosts as documents write them: patterns that a route matches, and addresses of servers.

The law: what passes here can match or be connected to; a pattern that no request could ever meet is refused.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from shared.host_pattern import parse_host

# As DNS has it; a resolver refuses an empty or longer label before it asks anybody.
_LABEL = r"[0-9a-zA-Z_-]{1,63}"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*\.?"
_ADDRESS = re.compile(rf"(?P<host>{_NAME}|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
# The longest name that DNS can carry, and its final dot.
_LONGEST_NAME = 254


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("host", "{text}", {"text": text})


def _host_pattern(value: str) -> str:
    try:
        parse_host(value)
    except ValueError as error:
        raise _refuse(str(error)) from error
    return value


def split_address(value: str) -> tuple[str, int | None]:
    """`HOST[:PORT]` without the brackets of an IPv6 address; ValueError with the reason."""
    match = _ADDRESS.fullmatch(value)
    if match is None:
        raise ValueError(f'invalid address "{value}": expected HOST, HOST:PORT or [IPv6]:PORT')
    host, port = match["host"], match["port"]
    if len(host) > _LONGEST_NAME:
        raise ValueError(f"invalid address: a name of {len(host)} characters, expected at most {_LONGEST_NAME}")
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise ValueError(f'invalid IPv6 address "{host}": {error}') from error
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError(f"invalid port {port}: expected 1 to 65535")
    return host, int(port) if port else None


def _address(value: str) -> str:
    try:
        split_address(value)
    except ValueError as error:
        raise _refuse(str(error)) from error
    return value


def _host(value: str) -> str:
    if ":" in value.rpartition("]")[2]:
        raise _refuse(f'invalid host "{value}": an IPv6 address stands in brackets, a port has its own property')
    return _address(value)


HostPattern = Annotated[str, AfterValidator(_host_pattern)]
Address = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]
