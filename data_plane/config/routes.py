"""One route of the snapshot, out of its own version and everything that it inherits.

The law: plugins come from the route, its plugin_config and its service (by whole name, in this order); the upstream
from the route, else from the service, and at each of them `upstream_id` before an inline one; the timeout from the
route, else from the upstream. What is missing makes the route answer with a problem instead of matching nothing, so
that no other route takes its requests. A route with a problem has no upstream; with one that stands before plugins (a
service, a plugin_config or a plugin that is missing) it has none of these either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from data_plane.config.bindings import UNATTACHED, besides, bind, in_phases, program_of, wasm_names
from data_plane.config.global_plugins import GlobalPlugins
from data_plane.config.holders import Held
from data_plane.config.identity import kept
from data_plane.config.merging import authenticates, merge_binding
from data_plane.config.natives import Natives
from data_plane.config.snapshot import Binding, OwnTimeouts, Route, Timeouts, Upstream, WasmPlugin
from data_plane.config.upstreams import UpstreamTable
from data_plane.routing.router import Conditions
from shared.plugin_merge import effective_plugins
from shared.schema.plugin_config import PluginConfigSpec
from shared.schema.plugins import AnyConf
from shared.schema.route import RouteSpec
from shared.schema.service import ServiceSpec
from shared.schema.stream_route import StreamRouteSpec
from shared.schema.upstream import HTTP_SCHEMES, UpstreamSpec


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a route may inherit from; a named thing that does not exist is None."""

    service: Held[ServiceSpec] | None
    plugin_config: Held[PluginConfigSpec] | None
    global_plugins: GlobalPlugins
    plugins: Mapping[str, WasmPlugin]
    natives: Natives = UNATTACHED


def compile_route(
    route_id: str,
    spec: RouteSpec,
    surroundings: Surroundings,
    choose_upstream: Callable[[], Upstream | str],
    before: Route | None,
) -> Route:
    """`before` is the route as it is served now; it is returned when nothing changes."""
    owner = f"route/{route_id}"
    bindings: tuple[Binding, ...] = ()
    upstream: Upstream | str
    confs = effective_plugins(spec.plugins, _plugins(surroundings.plugin_config), _plugins(surroundings.service))
    if spec.plugin_config_id is not None and surroundings.plugin_config is None:
        upstream = "plugin_config_missing"
    elif spec.service_id is not None and surroundings.service is None:
        upstream = "service_missing"
    elif surroundings.global_plugins.blocked or not wasm_names(confs) <= surroundings.plugins.keys():
        upstream = "plugin_missing"
    else:
        known = before.bindings if before else ()
        own = bind(owner, confs, surroundings.plugins, known, surroundings.natives)
        bindings = in_phases(besides(surroundings.global_plugins.bindings, own) + own)
        if authenticates(bindings):
            bindings += (merge_binding(owner, bindings, known),)
        upstream = choose_upstream()
        if isinstance(upstream, Upstream) and upstream.scheme not in HTTP_SCHEMES:
            upstream = "upstream_not_http"
    served = upstream if isinstance(upstream, Upstream) else None
    mine = spec.timeout
    route = Route(
        id=route_id,
        name=spec.name or route_id,
        upstream=served,
        bindings=bindings,
        timeouts=OwnTimeouts(mine.connect, mine.send, mine.read) if mine else served.timeouts if served else Timeouts(),
        service_id=spec.service_id,
        problem=upstream if isinstance(upstream, str) else None,
        program=program_of(bindings),
        enable_websocket=_enables_websocket(spec, surroundings.service),
    )
    return kept(before, route)


def choose_upstream(
    owner_name: str,
    route: RouteSpec | StreamRouteSpec,
    service: ServiceSpec | None,
    find: Callable[[str], UpstreamSpec | None],
    table: UpstreamTable,
) -> Upstream | str:
    """The upstream of a route or the name of the problem with it. `owner_name` as in `route/1`."""
    owners: list[tuple[str, RouteSpec | ServiceSpec | StreamRouteSpec]] = [(owner_name, route)]
    if service is not None:
        owners.append((f"service/{route.service_id}", service))
    for name, owner in owners:
        if owner.upstream_id is not None:
            found = find(owner.upstream_id)
            if found is None:
                return "upstream_not_found"
            return table.compile(f"upstream/{owner.upstream_id}", found) or "no_nodes"
        if owner.upstream is not None:
            return table.compile(name, owner.upstream) or "no_nodes"
    return "upstream_missing"


def conditions_of(route: Held[RouteSpec], service: Held[ServiceSpec] | None) -> Conditions:
    """A route that names no host takes the hosts of its service."""
    spec = route.spec
    return Conditions(
        hosts=route.hosts or (service.hosts if service else ()),
        paths=route.paths,
        methods=frozenset(method.encode() for method in spec.methods) if spec.methods else None,
        priority=spec.priority,
        requirement=route.requirement,
    )


def _enables_websocket(route: RouteSpec, service: Held[ServiceSpec] | None) -> bool:
    if route.enable_websocket is not None:
        return route.enable_websocket
    return service is not None and service.spec.enable_websocket


def _plugins(held: Held[ServiceSpec] | Held[PluginConfigSpec] | None) -> Mapping[str, AnyConf] | None:
    return held.spec.plugins if held else None
