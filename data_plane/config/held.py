"""All versions that are served, and what each of them names.

The law: after `check_all` every route, service, plugin_config, global rule and stream route is held in the version that
`holders.hold` chose, and the references of both that version and the newest one stand in the reverse index (the newest
one may become good when what it names appears).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from data_plane.config.holders import H, Held, enabled_plugins, hold, references_of
from data_plane.config.references import References
from data_plane.config.tables import Tables
from data_plane.routing.steps import Steps
from shared.keys import ResourceKey
from shared.schema.global_rule import GlobalRuleSpec
from shared.schema.plugin_config import PluginConfigSpec
from shared.schema.route import RouteSpec
from shared.schema.service import ServiceSpec
from shared.schema.stream_route import StreamRouteSpec

AnyHeld = Held[RouteSpec] | Held[ServiceSpec] | Held[PluginConfigSpec] | Held[GlobalRuleSpec] | Held[StreamRouteSpec]


class HeldTables:
    __slots__ = ("_references", "_tables", "global_rules", "plugin_configs", "problems", "routes", "services", "stream_routes")

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._references = References()
        self.routes: dict[str, Held[RouteSpec]] = {}
        self.services: dict[str, Held[ServiceSpec]] = {}
        self.plugin_configs: dict[str, Held[PluginConfigSpec]] = {}
        self.global_rules: dict[str, Held[GlobalRuleSpec]] = {}
        self.stream_routes: dict[str, Held[StreamRouteSpec]] = {}
        self.problems: dict[ResourceKey, str] = {}

    def check_all(
        self, touched: Iterable[ResourceKey], live: Mapping[str, object], silent: Set[ResourceKey] = frozenset()
    ) -> Steps[set[ResourceKey]]:
        """Chooses anew for what is touched or names a touched plugin; returns all that may compile differently now. Who names
        one of the `silent` is not told of its change."""
        keys: set[ResourceKey] = set()
        for key in touched:
            keys.add(key)
            if key.kind == "wasm_plugins":
                keys |= self._references.naming(key)
            yield
        for key in keys:
            self._check_key(key, live)
            yield
        return (yield from self._references.reaching(key for key in keys if key not in silent))

    def _check_key(self, key: ResourceKey, live: Mapping[str, object]) -> None:
        match key.kind:
            case "routes":
                self._check(key, RouteSpec, self.routes, live)
            case "services":
                self._check(key, ServiceSpec, self.services, live)
            case "plugin_configs":
                self._check(key, PluginConfigSpec, self.plugin_configs, live)
            case "global_rules":
                self._check(key, GlobalRuleSpec, self.global_rules, live)
            case "stream_routes":
                self._check(key, StreamRouteSpec, self.stream_routes, live)
            case "upstreams" | "wasm_plugins" | "ssls":
                pass

    def runs(self, plugin: str) -> bool:
        """True while a complete version that is served names the plugin."""
        named_by = self._references.naming(ResourceKey("wasm_plugins", plugin))
        return any(self._runs(key, plugin) for key in named_by)

    def _runs(self, key: ResourceKey, plugin: str) -> bool:
        held: AnyHeld | None = None
        match key.kind:
            case "routes":
                held = self.routes.get(key.id)
            case "services":
                held = self.services.get(key.id)
            case "plugin_configs":
                held = self.plugin_configs.get(key.id)
            case "global_rules":
                held = self.global_rules.get(key.id)
            case "stream_routes":
                held = self.stream_routes.get(key.id)
            case _:
                pass
        return held is not None and held.complete and plugin in enabled_plugins(held.spec)

    def _check(self, key: ResourceKey, model: type[H], table: dict[str, Held[H]], live: Mapping[str, object]) -> None:
        self.problems.pop(key, None)
        spec = self._tables.get(model, key.kind, key.id)
        if spec is None:
            table.pop(key.id, None)
            self._references.point(key, frozenset())
            return
        held, problem = hold(spec, live, table.get(key.id))
        if problem is not None:
            self.problems[key] = problem
        named = references_of(spec)
        table[key.id] = held
        if held.spec is not spec:
            named |= references_of(held.spec)
        self._references.point(key, named)
