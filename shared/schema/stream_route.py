"""Stream routes: which TCP connections, through which plugins, to which upstream.

The law: what a route does not name it does not ask for; a route without any condition takes every connection that no other
route takes. A `sni` is only ever seen on a listener that looks for it (`tls://`).
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from shared.expression.addresses import Network as Network
from shared.expression.addresses import parse_network as parse_network
from shared.schema.common import Described, Maybe, NotYet, ReferenceId
from shared.schema.conditions import Addresses
from shared.schema.hosts import HostPattern
from shared.schema.plugins import WasmPlugins
from shared.schema.upstream import Port, UpstreamSpec


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("stream_route", "{text}", {"text": text})


class StreamRouteSpec(Described):
    remote_addr: Maybe[Addresses] = None
    server_addr: Maybe[Addresses] = None
    server_port: Maybe[Port] = None
    sni: Maybe[HostPattern] = None
    plugins: Maybe[WasmPlugins] = None
    service_id: Maybe[ReferenceId] = None
    upstream: Maybe[UpstreamSpec] = None
    upstream_id: Maybe[ReferenceId] = None

    protocol: NotYet = None

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if self.upstream is None and self.upstream_id is None and self.service_id is None:
            raise _refuse('object matches none of the required: ["upstream"] or ["upstream_id"] or ["service_id"]')
        return self
