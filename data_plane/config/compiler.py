"""Raw tables in, snapshots out; only what a change touches is compiled.

The law: `load` and `apply` take in what the store says; `begin` tells which plugins need their modules made ready;
`commit` then makes one snapshot of everything taken in. Between two snapshots every object that says the same is the
same object. A bad resource is a problem of its own and stops nothing else.

All of it is done in small steps, because one change may touch 100,000 routes; nothing of it is seen before the snapshot is
there. An upstream whose routes need not know of its change is renewed in place in the last step (upstreams.py).

Pure: whoever drives it (watcher.py) does the waiting and the logging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from data_plane.balance.health import Watchers
from data_plane.config.bindings import program_of
from data_plane.config.consumer_index import ConsumerIndex
from data_plane.config.consumers import Consumers
from data_plane.config.global_plugins import GlobalPlugins, bind_global
from data_plane.config.held import HeldTables
from data_plane.config.holders import Held
from data_plane.config.named_upstreams import NamedUpstreams
from data_plane.config.natives import Natives
from data_plane.config.plugin_metadata import MetadataTable
from data_plane.config.plugins import PluginRegistry
from data_plane.config.route_map import RouteMap
from data_plane.config.routes import Surroundings, choose_upstream, compile_route, conditions_of
from data_plane.config.snapshot import BY_REQUIREMENT, Route, Snapshot, WasmPlugin
from data_plane.config.ssls import Ssls
from data_plane.config.stream_routes import StreamRoutes
from data_plane.config.tables import Tables, store_problems
from data_plane.config.upstreams import UpstreamTable
from data_plane.routing.router import RouteEntry, Router
from data_plane.routing.steps import Steps
from data_plane.secrets.values import Values
from shared.keys import KINDS, Kind, ResourceKey
from shared.plugin.host import Host
from shared.schema.route import RouteSpec
from shared.schema.service import ServiceSpec
from shared.schema.stream_route import StreamRouteSpec
from shared.schema.upstream import UpstreamSpec
from shared.schema.wasm_plugin import WasmPluginSpec
from shared.store.contract import Batch, Listing

HeldOwner = Held[ServiceSpec] | Held[RouteSpec] | Held[StreamRouteSpec]


class Compiler:
    """`watchers` watch the nodes of upstreams; `host` is what native plugins are attached to, `consumers` what they ask."""

    def __init__(
        self, watchers: Watchers | None = None, host: Host | None = None, consumers: ConsumerIndex | None = None
    ) -> None:
        self._tables = Tables()
        self._held = HeldTables(self._tables)
        self._registry = PluginRegistry()
        self._metadata = MetadataTable(self._tables)
        self._upstreams = UpstreamTable(watchers)
        self._natives = Natives(host, self._metadata.values, self._upstreams)
        self._consumers = Consumers(self._tables, ConsumerIndex() if consumers is None else consumers, self._natives)
        self._named = NamedUpstreams(self._tables, self._upstreams)
        self._staged: set[ResourceKey] = set()
        self._global = GlobalPlugins()
        self._global_problems: dict[ResourceKey, str] = {}
        self._entries: dict[str, RouteEntry[Route]] = {}
        self._router = Router(by_requirement=BY_REQUIREMENT)
        self._dropped: list[object] = []
        self._routes = RouteMap()
        self._ssls = Ssls(self._tables)
        self._streams = StreamRoutes(self._held, self._upstreams, self._find_upstream)

    @property
    def problems(self) -> dict[str, str]:
        """Store key -> what is wrong with its value, as of the last commit."""
        found = {**self._global_problems, **self._held.problems, **self._registry.problems, **self._metadata.problems}
        found |= self._tables.problems
        return store_problems(found)

    @property
    def entries(self) -> Iterable[RouteEntry[Route]]:
        """The routes of the last commit as the router has them."""
        return self._entries.values()

    @property
    def values(self) -> Values:
        """What secrets and references are."""
        return self._tables.values

    @values.setter
    def values(self, values: Values) -> None:
        self._tables.values = values

    def renew(self, references: Set[str]) -> Steps[None]:
        """Takes in that these mean something else now."""
        yield from self._tables.renew(references)

    def load(self, listing: Listing) -> Steps[None]:
        yield from self._tables.load(listing, self._dropped)

    def apply(self, batch: Batch) -> Steps[None]:
        yield from self._tables.apply(batch.revision, batch.events)

    def begin(self) -> tuple[WasmPlugin, ...]:
        """The plugins whose modules must be made ready before `commit`."""
        touched = self._tables.take_touched()
        self._staged |= touched
        for key in touched:
            if key.kind == "wasm_plugins":
                self._registry.stage(key.id, self._tables.get(WasmPluginSpec, key.kind, key.id))
        return self._registry.candidates()

    def commit(self, unusable: Mapping[str, str]) -> Steps[Snapshot]:
        """`unusable`: plugin name -> why its module cannot be used, for plugins that `begin` returned."""
        self._registry.settle(unusable)
        touched, self._staged = self._staged, set()
        ids = yield from _by_kind(touched)
        silent = self._renewed_upstreams(ids["upstreams"])
        affected = yield from self._held.check_all(touched, self._registry.live, silent)
        self._registry.release(self._held.runs)
        plugins = self._registry.all()
        self._metadata.update(ids["plugin_metadata"])
        self._ssls.recompile(ids["ssls"])
        apply_consumers = yield from self._consumers.prepare(ids)
        compiled = yield from _by_kind(affected)
        if compiled["global_rules"] and self._recompile_global(plugins):
            compiled["routes"] = list(dict.fromkeys([*compiled["routes"], *self._held.routes]))
        yield from self._forget_upstreams(ids)
        self._named.update(ids["upstreams"])
        apply = yield from self._recompile_routes(compiled["routes"], plugins)
        self._streams.recompile(compiled["stream_routes"], plugins)
        self._dropped += (touched, affected)
        # From here on there is no pause.
        apply()
        apply_consumers()
        self._upstreams.settle()
        return Snapshot(
            self._tables.revision,
            self._router,
            self._routes,
            self._global.bindings,
            plugins,
            self._streams.router,
            self._streams.routes,
            self._named.find,
            self._ssls.table,
            global_program=program_of(self._global.bindings),
            choose=self._router.choose,
        )

    def let_go(self) -> Steps[None]:
        """After a snapshot is served: what it has no more. Containers among it are nobody else's."""
        while self._dropped:
            item = self._dropped.pop()
            while isinstance(item, dict | list | set) and item:
                if isinstance(item, dict):
                    item.popitem()
                else:
                    item.pop()
                yield
            yield

    def _renewed_upstreams(self, ids: Iterable[str]) -> set[ResourceKey]:
        """Those whose change is not for their routes to know."""
        found = ((id, self._find_upstream(id)) for id in ids)
        renewed = (id for id, spec in found if spec is not None and self._upstreams.renews(f"upstream/{id}", spec))
        return {ResourceKey("upstreams", id) for id in renewed}

    def _recompile_global(self, plugins: Mapping[str, WasmPlugin]) -> bool:
        """True when every route has to be looked at again."""
        before = self._global
        self._global, self._global_problems = bind_global(self._held.global_rules, plugins, before, self._natives)
        return self._global != before

    def _forget_upstreams(self, ids: Mapping[Kind, Sequence[str]]) -> Steps[None]:
        """A balancer goes with the last version that has its upstream."""
        held = self._held
        for id in ids["upstreams"]:
            if self._find_upstream(id) is None:
                self._upstreams.forget(f"upstream/{id}")
        owners: list[tuple[str, Sequence[str], Mapping[str, HeldOwner]]] = [
            ("service", ids["services"], held.services),
            ("route", ids["routes"], held.routes),
            ("stream_route", ids["stream_routes"], held.stream_routes),
        ]
        for kind, touched, table in owners:
            for id in touched:
                if id not in table or table[id].spec.upstream is None:
                    self._upstreams.forget(f"{kind}/{id}")
                yield

    def _recompile_routes(self, route_ids: Iterable[str], plugins: Mapping[str, WasmPlugin]) -> Steps[Callable[[], None]]:
        """Returns what lets the router know of them."""
        removed: list[RouteEntry[Route]] = []
        added: list[RouteEntry[Route]] = []
        for route_id in route_ids:
            yield
            before, entry = self._entries.get(route_id), self._compile_entry(route_id, plugins)
            if before == entry:
                continue
            if before is not None:
                removed.append(before)
                del self._entries[route_id]
            if entry is not None:
                added.append(entry)
                self._entries[route_id] = entry
        dropped = self._dropped
        dropped += removed
        if removed or added:
            gone, come = (entry.id for entry in removed), (entry.target for entry in added)
            self._routes = yield from self._routes.replaced(gone, come, dropped)
        return (yield from self._router.prepare(removed, added, dropped))

    def _compile_entry(self, route_id: str, plugins: Mapping[str, WasmPlugin]) -> RouteEntry[Route] | None:
        held = self._held.routes.get(route_id)
        if held is None or held.spec.status == 0:
            return None
        spec = held.spec
        service = None if spec.service_id is None else self._held.services.get(spec.service_id)
        plugin_config = None if spec.plugin_config_id is None else self._held.plugin_configs.get(spec.plugin_config_id)
        service_spec = service.spec if service else None
        route = compile_route(
            route_id,
            spec,
            Surroundings(service, plugin_config, self._global, plugins, self._natives),
            lambda: choose_upstream(f"route/{route_id}", spec, service_spec, self._find_upstream, self._upstreams),
            self._routes.get(route_id),
        )
        return RouteEntry(route_id, conditions_of(held, service), route)

    def _find_upstream(self, upstream_id: str) -> UpstreamSpec | None:
        return self._tables.get(UpstreamSpec, "upstreams", upstream_id)


def _by_kind(keys: Iterable[ResourceKey]) -> Steps[dict[Kind, list[str]]]:
    ids: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for key in keys:
        ids[key.kind].append(key.id)
        yield
    return ids
