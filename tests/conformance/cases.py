"""All cases: importing a module of them fills the table."""

from tests.conformance import (
    addresses,
    apisix,
    buffers,
    calls,
    connections,
    facts,
    foreign,
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
    connections,
    foreign,
    addresses,
    wasi,
    apisix,
)

__all__ = ["MODULES", "TABLE"]
