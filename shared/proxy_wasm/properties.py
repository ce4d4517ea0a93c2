"""Properties that Python answers: what is known about the connection, the upstream and the plugin itself.

The law: a path is its segments; a value is encoded as in Envoy (strings raw, integers and times 8 bytes little endian,
booleans one byte); what does not exist is None and becomes NotFound. Those of the heads are answered by the core (property.c).
Source: ABI reference, section "Property path and value encodings".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from shared.proxy_wasm.pairs import Pairs
from shared.proxy_wasm.tls_properties import TLS_PROPERTIES

_INTEGER = struct.Struct("<q")


class StreamFacts(Protocol):
    """What a host knows about a stream beyond its heads; data_plane/plugins/interface.py says what each is."""

    @property
    def client_address(self) -> tuple[str, int]: ...

    @property
    def local_address(self) -> tuple[str, int]: ...

    @property
    def connection_id(self) -> int: ...

    @property
    def protocol(self) -> str: ...

    @property
    def upstream_address(self) -> tuple[str, int] | None: ...

    @property
    def start_time_ns(self) -> int: ...

    @property
    def request_bytes(self) -> int: ...

    @property
    def response_bytes(self) -> int: ...

    @property
    def route_name(self) -> str: ...


def _integer(value: int) -> bytes:
    return _INTEGER.pack(value)


def _address(address: tuple[str, int]) -> bytes:
    host, port = address
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def _upstream_address(facts: StreamFacts) -> bytes | None:
    return _address(facts.upstream_address) if facts.upstream_address else None


def _upstream_port(facts: StreamFacts) -> bytes | None:
    return _integer(facts.upstream_address[1]) if facts.upstream_address else None


def _known(name: str, encode: Callable[[int], bytes]) -> Callable[[StreamFacts], bytes | None]:
    """A fact that not every kind of stream has, or not at every time."""

    def read(facts: StreamFacts) -> bytes | None:
        value = getattr(facts, name, None)
        return None if value is None else encode(value)

    return read


def _text(value: object) -> bytes:
    return str(value).encode()


# Of Envoy's directions UNSPECIFIED: a listener here is neither a side-car's.
_LISTENER_DIRECTION = 0

STREAM_PROPERTIES: dict[tuple[bytes, ...], Callable[[StreamFacts], bytes | None]] = {
    **TLS_PROPERTIES,
    (b"request", b"protocol"): lambda facts: facts.protocol.encode() or None,
    (b"request", b"time"): lambda facts: _integer(facts.start_time_ns),
    (b"request", b"size"): lambda facts: _integer(facts.request_bytes),
    (b"request", b"duration"): _known("duration_ns", _integer),
    (b"response", b"size"): lambda facts: _integer(facts.response_bytes),
    (b"source", b"address"): lambda facts: _address(facts.client_address),
    (b"source", b"port"): lambda facts: _integer(facts.client_address[1]),
    (b"destination", b"address"): lambda facts: _address(facts.local_address),
    (b"destination", b"port"): lambda facts: _integer(facts.local_address[1]),
    (b"connection", b"id"): lambda facts: _integer(facts.connection_id),
    (b"connection_id",): lambda facts: _integer(facts.connection_id),
    (b"upstream", b"address"): _upstream_address,
    (b"upstream", b"port"): _upstream_port,
    (b"upstream", b"request_attempt_count"): _known("attempts", _integer),
    (b"cluster_name",): _known("upstream_name", _text),
    (b"xds", b"cluster_name"): _known("upstream_name", _text),
    (b"listener_direction",): lambda _: _integer(_LISTENER_DIRECTION),
    (b"xds", b"listener_direction"): lambda _: _integer(_LISTENER_DIRECTION),
    (b"xds", b"route_name"): lambda facts: facts.route_name.encode(),
    (b"route_name",): lambda facts: facts.route_name.encode(),
}


# What set_envoy_filter_state has set stands among the plugins' own under this prefix, as no path begins with NUL.
FILTER_STATE = b"\0filter_state\0"
_FILTER_STATE_PATH, _OF_PLUGINS = b"filter_state\0", b"wasm."


def plugins_own(own: Mapping[bytes, bytes], path: bytes) -> bytes | None:
    """What plugins have set on a stream: by the path that they set, and as Envoy's filter state, where that is `wasm.PATH`."""
    value = own.get(path)
    if value is None and path.startswith(_FILTER_STATE_PATH):
        name = path[len(_FILTER_STATE_PATH) :]
        value = own.get(FILTER_STATE + name)
        if value is None and name.startswith(_OF_PLUGINS):
            value = own.get(name[len(_OF_PLUGINS) :])
    return value


def segments(path: bytes) -> tuple[bytes, ...]:
    return tuple(path.split(b"\0"))


def plugin_property(path: tuple[bytes, ...], plugin_name: str, node: str) -> bytes | None:
    """What is known in every context. The root id is the plugin's name: SDKs look up their root context by it."""
    if path in ((b"plugin_name",), (b"plugin_root_id",), (b"plugin_vm_id",)):
        return plugin_name.encode()
    if path in ((b"node", b"id"), (b"xds", b"node", b"id")):
        return node.encode()
    return None


def total_size(fields: Pairs | None, body: int) -> bytes | None:
    """Names and values of a head, and the body."""
    return None if fields is None else _integer(sum(len(name) + len(value) for name, value in fields) + body)


def stream_property(path: tuple[bytes, ...], facts: StreamFacts) -> bytes | None:
    reader = STREAM_PROPERTIES.get(path)
    return reader(facts) if reader else None
