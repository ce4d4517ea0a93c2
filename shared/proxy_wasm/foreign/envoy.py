"""Envoy's foreign functions, by Envoy's names and with its arguments, as far as they mean anything without Envoy.

`clear_route_cache` stands in the core (core/foreign.c).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from shared.proxy_wasm.abi import Status
from shared.proxy_wasm.foreign import protobuf
from shared.proxy_wasm.properties import FILTER_STATE

if TYPE_CHECKING:
    from shared.proxy_wasm.foreign.call import ForeignCall


def compress(call: ForeignCall) -> bytes | Status:
    """zlib's format (RFC 1950)."""
    return zlib.compress(call.arguments)


def uncompress(call: ForeignCall) -> bytes | Status:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(call.arguments, call.result_limit)
    except zlib.error:
        return Status.SERIALIZATION_FAILURE
    if inflater.unconsumed_tail:
        return Status.INTERNAL_FAILURE  # more than a plugin may hold
    return data if inflater.eof else Status.SERIALIZATION_FAILURE


def set_envoy_filter_state(call: ForeignCall) -> bytes | Status:
    """SetEnvoyFilterStateArguments: path = 1, value = 2, span = 3. Read again as `filter_state`, path."""
    try:
        message = protobuf.fields(call.arguments)
        path, value = protobuf.text(message, 1), protobuf.text(message, 2)
    except protobuf.ProtobufError:
        return Status.BAD_ARGUMENT
    if call.stream is None:
        return Status.NOT_FOUND
    call.stream.owner.plugin_properties()[FILTER_STATE + path] = value
    return b""


def declare_property(call: ForeignCall) -> bytes | Status:
    """DeclarePropertyArguments: name = 1, readonly = 2, type = 3, schema = 4, span = 5. Once for each name; a read-only one is
    set once on each stream."""
    try:
        message = protobuf.fields(call.arguments)
        name, read_only = protobuf.text(message, 1), protobuf.flag(message, 2)
    except protobuf.ProtobufError:
        return Status.BAD_ARGUMENT
    declared = call.plugin_context.declared
    if name in declared:
        return Status.BAD_ARGUMENT
    declared[name] = bool(read_only)
    return b""


def sign(call: ForeignCall) -> bytes | Status:
    from shared.proxy_wasm.foreign import signatures

    return signatures.sign(call)


def verify_signature(call: ForeignCall) -> bytes | Status:
    from shared.proxy_wasm.foreign import signatures

    return signatures.verify_signature(call)


def load_libraries() -> None:
    """For a plugin that calls foreign functions, when it is compiled: in a callback the 0.2 s would be the plugin's. A worker
    without such a plugin is 11 MB smaller."""
    import_module("shared.proxy_wasm.foreign.signatures")


FUNCTIONS: dict[str, Callable[[ForeignCall], bytes | Status]] = {
    "compress": compress,
    "uncompress": uncompress,
    "set_envoy_filter_state": set_envoy_filter_state,
    "declare_property": declare_property,
    "sign": sign,
    "verify_signature": verify_signature,
}
