"""Routes: which requests, through which plugins, to which upstream.

The law: a path pattern is what shared/path_pattern.py reads: exact, a prefix that ends in `*`, or with `:param` segments;
anything else that APISIX's routers know is refused until this router knows it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.path_pattern import parse_path
from shared.schema.common import (
    Described,
    Integer,
    Maybe,
    NotYet,
    ReferenceId,
    SomeUnique,
    Status,
    TimeoutSpec,
    UniqueArray,
)
from shared.schema.conditions import Addresses, NoLua, Vars
from shared.schema.hosts import HostPattern
from shared.schema.plugins import Plugins
from shared.schema.upstream import HTTP_SCHEMES, UpstreamSpec

Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"]


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("route", "{text}", {"text": text})


def _path_pattern(value: str) -> str:
    try:
        parse_path(value)
    except ValueError as error:
        raise _refuse(str(error)) from error
    return value


PathPattern = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_path_pattern)]


class RouteSpec(Described):
    uri: Maybe[PathPattern] = None
    uris: Maybe[SomeUnique[PathPattern]] = None
    host: Maybe[HostPattern] = None
    hosts: Maybe[SomeUnique[HostPattern]] = None
    methods: Maybe[UniqueArray[Method]] = None
    priority: Integer = 0
    status: Status = 1
    plugins: Maybe[Plugins] = None
    plugin_config_id: Maybe[ReferenceId] = None
    service_id: Maybe[ReferenceId] = None
    upstream: Maybe[UpstreamSpec] = None
    upstream_id: Maybe[ReferenceId] = None
    timeout: Maybe[TimeoutSpec] = None
    enable_websocket: Maybe[bool] = None

    remote_addr: Maybe[Addresses] = None
    remote_addrs: Maybe[SomeUnique[Addresses]] = None
    vars: Maybe[Vars] = None

    filter_func: NoLua = None
    script: NotYet = None
    script_id: NotYet = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.uri is not None and self.uris is not None:
            raise _refuse("value should match only one schema, but matches both uri and uris")
        if self.uri is None and self.uris is None:
            raise _refuse('value should match only one schema, but matches none: property "uri" or "uris" is required')
        if self.host is not None and self.hosts is not None:
            raise _refuse("only one of host or hosts is allowed")
        if self.remote_addr is not None and self.remote_addrs is not None:
            raise _refuse("only one of remote_addr or remote_addrs is allowed")
        if self.plugins is None and self.upstream is None and self.upstream_id is None and self.service_id is None:
            raise _refuse(
                'object matches none of the required: ["plugins"] or ["upstream"] or ["upstream_id"] or ["service_id"]'
            )
        if self.upstream is not None and self.upstream.scheme not in HTTP_SCHEMES:
            raise _refuse(f'property "upstream" validation failed: scheme {self.upstream.scheme} is for stream_routes only')
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The path patterns, whichever property they came in."""
        return self.uris if self.uris is not None else (self.uri or "",)

    @property
    def networks(self) -> tuple[str, ...]:
        """Of clients, whichever property they came in; empty: any."""
        return self.remote_addrs if self.remote_addrs is not None else () if self.remote_addr is None else (self.remote_addr,)

    @property
    def host_patterns(self) -> tuple[str, ...]:
        """Host patterns in lower case; empty when the route itself names none."""
        hosts = self.hosts if self.hosts is not None else (self.host,) if self.host is not None else ()
        return tuple(host.lower() for host in hosts)
