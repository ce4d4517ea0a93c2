"""The stream routes of the snapshot, each out of its own version and its service's.

The law: as for routes (routes.py): plugins by whole name from the route, then the service; the upstream from the route, else
from the service. A route that cannot be served matches with a problem, so that no other route takes its connections. Global
rules are for requests and have no part here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from data_plane.config.bindings import bind
from data_plane.config.held import HeldTables
from data_plane.config.holders import Held
from data_plane.config.identity import kept
from data_plane.config.routes import choose_upstream
from data_plane.config.snapshot import PluginBinding, StreamRoute, Upstream, WasmPlugin
from data_plane.config.upstreams import UpstreamTable
from data_plane.routing.stream_router import StreamConditions, StreamEntry, StreamRouter
from shared.host_pattern import parse_host
from shared.plugin_merge import effective_plugins
from shared.schema.common import PluginConf
from shared.schema.service import ServiceSpec
from shared.schema.stream_route import Network, StreamRouteSpec, parse_network
from shared.schema.upstream import UpstreamSpec


class StreamRoutes:
    """`router` and `routes` are replaced, never changed: the old ones belong to a snapshot."""

    def __init__(self, held: HeldTables, upstreams: UpstreamTable, find_upstream: Callable[[str], UpstreamSpec | None]) -> None:
        self._held = held
        self._upstreams = upstreams
        self._find_upstream = find_upstream
        self._entries: dict[str, StreamEntry[StreamRoute]] = {}
        self.router = StreamRouter[StreamRoute]()
        self.routes: Mapping[str, StreamRoute] = {}

    def recompile(self, route_ids: Iterable[str], plugins: Mapping[str, WasmPlugin]) -> None:
        changed = False
        for route_id in route_ids:
            before, entry = self._entries.get(route_id), self._compile(route_id, plugins)
            if before == entry:
                continue
            changed = True
            if entry is None:
                del self._entries[route_id]
            else:
                self._entries[route_id] = entry
        if changed:
            self.router = StreamRouter(self._entries.values())
            self.routes = {entry.id: entry.target for entry in self._entries.values()}

    def _compile(self, route_id: str, plugins: Mapping[str, WasmPlugin]) -> StreamEntry[StreamRoute] | None:
        held = self._held.stream_routes.get(route_id)
        if held is None:
            return None
        spec = held.spec
        service = None if spec.service_id is None else self._held.services.get(spec.service_id)
        before = self.routes.get(route_id)
        fresh = self._route(route_id, spec, service, plugins, before)
        return StreamEntry(route_id, _conditions(spec), kept(before, fresh))

    def _route(
        self,
        route_id: str,
        spec: StreamRouteSpec,
        service: Held[ServiceSpec] | None,
        plugins: Mapping[str, WasmPlugin],
        before: StreamRoute | None,
    ) -> StreamRoute:
        owner, name = f"stream_route/{route_id}", spec.name or route_id
        service_spec = service.spec if service else None
        confs = effective_plugins(spec.plugins, None, service_spec.plugins if service_spec else None)
        if spec.service_id is not None and service is None:
            return StreamRoute(route_id, name, None, problem="service_missing")
        # Of a service that HTTP routes have too, a session takes the Wasm plugins.
        wasm = {name: conf for name, conf in confs.items() if isinstance(conf, PluginConf)}
        if not wasm.keys() <= plugins.keys():
            return StreamRoute(route_id, name, None, problem="plugin_missing")
        bound = bind(owner, wasm, plugins, before.bindings if before else ())
        bindings = tuple(binding for binding in bound if isinstance(binding, PluginBinding))
        upstream = choose_upstream(owner, spec, service_spec, self._find_upstream, self._upstreams)
        if isinstance(upstream, Upstream):
            return StreamRoute(route_id, name, upstream, bindings)
        return StreamRoute(route_id, name, None, bindings, upstream)


def _conditions(spec: StreamRouteSpec) -> StreamConditions:
    return StreamConditions(
        sni=None if spec.sni is None else parse_host(spec.sni),
        server_port=spec.server_port,
        server_addr=_network(spec.server_addr),
        remote_addr=_network(spec.remote_addr),
    )


def _network(text: str | None) -> Network | None:
    return None if text is None else parse_network(text)
