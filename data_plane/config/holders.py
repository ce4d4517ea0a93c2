"""Routes, services, plugin_configs, global rules and stream routes as they are served: the last version that can be.

The law: a version is *complete* when every plugin that it names (and does not disable) is live. A version that is not
complete never replaces one that was. When there was none, it is held as incomplete: it still closes what it guards (its
routes answer `plugin_missing`), because a route must never run without a plugin that it names. Patterns of hosts and paths
are no concern here: the schema refuses what the router cannot read.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from data_plane.routing.requirement import Requirement
from shared.expression.addresses import AddressSet
from shared.expression.language import compile_expression
from shared.host_pattern import HostPattern, parse_hosts
from shared.keys import ResourceKey
from shared.path_pattern import PathPattern, parse_paths
from shared.schema.common import PluginConf
from shared.schema.global_rule import GlobalRuleSpec
from shared.schema.plugin_config import PluginConfigSpec
from shared.schema.plugins import AnyConf, NativeConf
from shared.schema.route import RouteSpec
from shared.schema.service import ServiceSpec
from shared.schema.stream_route import StreamRouteSpec

HolderSpec = RouteSpec | ServiceSpec | PluginConfigSpec | GlobalRuleSpec | StreamRouteSpec
H = TypeVar("H", RouteSpec, ServiceSpec, PluginConfigSpec, GlobalRuleSpec, StreamRouteSpec)

KEPT = "the last good version stays"
CLOSED = "requests that need it are refused"


@dataclass(frozen=True, slots=True)
class Held(Generic[H]):
    spec: H
    complete: bool
    hosts: tuple[HostPattern, ...] = ()
    paths: tuple[PathPattern, ...] = ()
    requirement: Requirement | None = None


def hold(spec: H, live: Container[str], before: Held[H] | None) -> tuple[Held[H], str | None]:
    """What is served from now on, and what is wrong with the new version if anything is."""
    hosts, paths = _patterns(spec)
    requirement = _requirement(spec) if isinstance(spec, RouteSpec) else None
    missing = [name for name in sorted(enabled_plugins(spec)) if name not in live]
    if not missing:
        return Held(spec, True, hosts, paths, requirement), None
    names = ", ".join(f"[{name}]" for name in missing)
    problem = f"names plugins that cannot run here: {names}"
    if before is not None and before.complete:
        return before, f"{problem}; {KEPT}"
    return Held(spec, False, hosts, paths, requirement), f"{problem}; {CLOSED}"


def enabled_plugins(spec: HolderSpec) -> set[str]:
    """The Wasm plugins: native ones are always there."""
    plugins: Mapping[str, AnyConf] = spec.plugins or {}
    return {name for name, conf in plugins.items() if isinstance(conf, PluginConf) and not conf.meta.disable}


def _with_metadata(spec: HolderSpec) -> list[str]:
    plugins: Mapping[str, AnyConf] = spec.plugins or {}
    return [name for name, conf in plugins.items() if isinstance(conf, NativeConf) and conf.plugin.Metadata is not None]


def references_of(spec: HolderSpec) -> set[ResourceKey]:
    """Every resource whose change may change what is compiled from this one."""
    found = {ResourceKey("wasm_plugins", name) for name in enabled_plugins(spec)}
    found |= {ResourceKey("plugin_metadata", name) for name in _with_metadata(spec)}
    if isinstance(spec, RouteSpec | ServiceSpec | StreamRouteSpec) and spec.upstream_id is not None:
        found.add(ResourceKey("upstreams", spec.upstream_id))
    if isinstance(spec, RouteSpec | StreamRouteSpec) and spec.service_id is not None:
        found.add(ResourceKey("services", spec.service_id))
    if isinstance(spec, RouteSpec) and spec.plugin_config_id is not None:
        found.add(ResourceKey("plugin_configs", spec.plugin_config_id))
    return found


def _requirement(spec: RouteSpec) -> Requirement | None:
    networks, rules = spec.networks, spec.vars
    if not networks and not rules:
        return None
    addresses = AddressSet(networks) if networks else None
    return Requirement(addresses, compile_expression(rules, routed=False) if rules else None)


def _patterns(spec: HolderSpec) -> tuple[tuple[HostPattern, ...], tuple[PathPattern, ...]]:
    match spec:
        case RouteSpec():
            return parse_hosts(spec.host_patterns), parse_paths(spec.paths)
        case ServiceSpec():
            return parse_hosts(spec.host_patterns), ()
        case _:
            return (), ()
