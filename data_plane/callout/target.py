"""Where a plugin's call goes: an upstream of the configuration by id or name, or an address that the plugin names itself.

The law: a name of the configuration goes before an address, and its own scheme, nodes, balancer, timeouts and Host rule hold.
An address is `HOST:PORT`, or with a scheme before it `https://HOST[:PORT]`; it is one node, and has the timeouts of an upstream
that names none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from data_plane.config.snapshot import Node, Picker, Upstream
from shared.schema.hosts import split_address

FindUpstream = Callable[[str], Upstream | None]

# scheme -> (over TLS, default port)
SCHEMES = {"http": (False, 80), "https": (True, 443), "grpc": (False, 80), "grpcs": (True, 443)}


class TargetError(ValueError):
    """The name is neither an upstream that can be called nor an address."""


@dataclass(frozen=True, slots=True)
class TlsNode(Node):
    """`server_name` is the name that its certificate must have."""

    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """`authority` is what an address says of itself; empty for an upstream of the configuration."""

    upstream: Upstream
    tls: bool
    authority: bytes = b""


def find_target(name: bytes, find: FindUpstream, scheme: str, server_name: str = "", *, port_needed: bool = True) -> Target:
    """`scheme` is that of an address that names none. Raises TargetError."""
    try:
        text = name.decode("ascii")
        named_scheme, separator, address = text.partition("://")
        if separator:
            return _address_target(address, named_scheme, server_name)
        upstream = find(text)
        if upstream is not None:
            return _upstream_target(upstream)
        if port_needed and split_address(text)[1] is None:
            raise TargetError(f"no upstream is called {text}, and it is no address with a port")
        return _address_target(text, scheme, server_name)
    except TargetError:
        raise
    except ValueError as error:
        raise TargetError(str(error)) from None


def _upstream_target(upstream: Upstream) -> Target:
    scheme: str = upstream.scheme
    if scheme not in SCHEMES:
        raise TargetError(f"upstream {upstream.name} speaks {scheme}, which no call can")
    return Target(upstream, SCHEMES[scheme][0])


@lru_cache(maxsize=256)
def _address_target(address: str, scheme: str, server_name: str) -> Target:
    if scheme not in SCHEMES:
        raise TargetError(f"unknown scheme {scheme}")
    tls, default_port = SCHEMES[scheme]
    host, port = split_address(address)
    port = default_port if port is None else port
    bracketed = f"[{host}]" if ":" in host else host
    authority = bracketed if port == default_port else f"{bracketed}:{port}"
    if tls:
        name = server_name or host
        # The authority is what a pool knows a node by: one address may be asked for under several names.
        node: Node = TlsNode(host, port, 1, f"{name}@{bracketed}:{port}".encode(), server_name=name)
    else:
        node = Node(host, port, 1, (bracketed if port == 80 else f"{bracketed}:{port}").encode())
    return Target(Upstream(f"call/{scheme}/{address}", _One(node)), tls, authority.encode())


class _One(Picker):
    """A picker of one node."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def pick(self) -> Node:
        return self._node
