"""All cases: importing a module of them fills the table."""

from tests.conformance import (
    addresses,
    apisix,
    apisix_messages,
    buffers,
    calls,
    connections,
    facts,
    foreign,
    grpc_calls,
    lifecycle,
    maps,
    start,
    state,
    streams,
    trailers,
    wasi,
)
from tests.conformance.table import TABLE

MODULES = (
    start,
    lifecycle,
    streams,
    maps,
    buffers,
    trailers,
    facts,
    state,
    calls,
    grpc_calls,
    connections,
    foreign,
    addresses,
    wasi,
    apisix,
    apisix_messages,
)

__all__ = ["MODULES", "TABLE"]
