"""Raw tables in, snapshots out; only what a change touches is compiled.

The law: `load` and `apply` take in what the store says; `begin` tells which plugins need their modules made ready;
`commit` then makes one snapshot of everything taken in. Between two snapshots every object that says the same is the
same object. A bad resource is a problem of its own and stops nothing else.

All of it is done in small steps, because one change may touch 100,000 routes; nothing of it is seen before the snapshot is
there. An upstream whose routes need not know of its change is renewed in place in the last step (upstreams.py).

Pure: whoever drives it (watcher.py) does the waiting and the logging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_plane.balance.health import Watchers
from data_plane.config.bindings import program_of
from data_plane.config.global_plugins import GlobalPlugins, bind_global
from data_plane.config.held import HeldTables
from data_plane.config.named_upstreams import NamedUpstreams
from data_plane.config.plugin_metadata import MetadataTable
from data_plane.config.plugins import PluginRegistry
from data_plane.config.routes import Surroundings, choose_upstream, compile_route, conditions_of
from data_plane.config.snapshot import BY_REQUIREMENT, Route, Snapshot, WasmPlugin
from data_plane.config.ssls import Ssls
from data_plane.config.stream_routes import StreamRoutes
from data_plane.config.tables import Tables, store_problems
from data_plane.config.upstreams import UpstreamTable
from data_plane.routing.router import RouteEntry, Router
from data_plane.routing.steps import Steps
from shared.keys import ResourceKey
from shared.schema.upstream import UpstreamSpec
from shared.schema.wasm_plugin import WasmPluginSpec
from shared.store.contract import Batch, Listing


class Compiler:
    """`watchers` watch the nodes of upstreams."""

    def __init__(self, watchers: Watchers | None = None) -> None:
        self._tables = Tables()
        self._held = HeldTables(self._tables)
        self._registry = PluginRegistry()
        self._metadata = MetadataTable(self._tables)
        self._upstreams = UpstreamTable(watchers)
        self._named = NamedUpstreams(self._tables, self._upstreams)
        self._staged: set[ResourceKey] = set()
        self._global = GlobalPlugins()
        self._global_problems: dict[ResourceKey, str] = {}
        self._entries: dict[str, RouteEntry[Route]] = {}
        self._router = Router(by_requirement=BY_REQUIREMENT)
        self._dropped: list[object] = []
        self._routes: dict[str, Route] = {}
        self._ssls = Ssls(self._tables)
        self._streams = StreamRoutes(self._held, self._upstreams, self._find_upstream)

    @property
    def problems(self) -> dict[str, str]:
        """Store key -> what is wrong with its value, as of the last commit."""
        found = {**self._global_problems, **self._held.problems, **self._registry.problems, **self._metadata.problems}
        found |= self._tables.problems
        return store_problems(found)

    def load(self, listing: Listing) -> Steps[None]:
        yield from self._tables.load(listing)

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
        silent = self._renewed_upstreams(touched)
        affected = yield from self._held.check_all(touched, self._registry.live, silent)
        self._registry.release(self._held.runs)
        plugins = self._registry.all()
        self._metadata.update(key.id for key in touched if key.kind == "plugin_metadata")
        self._ssls.recompile(key.id for key in touched if key.kind == "ssls")
        if self._recompile_global(affected, plugins):
            for route_id in self._held.routes:
                affected.add(ResourceKey("routes", route_id))
                yield
        self._forget_upstreams(touched)
        self._named.update(key.id for key in touched if key.kind == "upstreams")
        yield from self._recompile_routes((key.id for key in affected if key.kind == "routes"), plugins)
        self._streams.recompile((key.id for key in affected if key.kind == "stream_routes"), plugins)
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
        """After a snapshot is served: what it has no more."""
        while self._dropped:
            self._dropped.pop()
            yield

    def _renewed_upstreams(self, touched: Iterable[ResourceKey]) -> set[ResourceKey]:
        """Those whose change is not for their routes to know."""
        found = ((key, self._find_upstream(key.id)) for key in touched if key.kind == "upstreams")
        return {key for key, spec in found if spec is not None and self._upstreams.renews(f"upstream/{key.id}", spec)}

    def _recompile_global(self, affected: set[ResourceKey], plugins: Mapping[str, WasmPlugin]) -> bool:
        """True when every route has to be looked at again."""
        if not any(key.kind == "global_rules" for key in affected):
            return False
        before = self._global
        self._global, self._global_problems = bind_global(self._held.global_rules, plugins, before, self._metadata.values)
        return self._global != before

    def _forget_upstreams(self, touched: Iterable[ResourceKey]) -> None:
        """A balancer goes with the last version that has its upstream."""
        held = self._held
        for kind, id in ((key.kind, key.id) for key in touched):
            if kind == "upstreams" and self._find_upstream(id) is None:
                self._upstreams.forget(f"upstream/{id}")
            elif kind == "services" and (id not in held.services or held.services[id].spec.upstream is None):
                self._upstreams.forget(f"service/{id}")
            elif kind == "routes" and (id not in held.routes or held.routes[id].spec.upstream is None):
                self._upstreams.forget(f"route/{id}")
            elif kind == "stream_routes" and (id not in held.stream_routes or held.stream_routes[id].spec.upstream is None):
                self._upstreams.forget(f"stream_route/{id}")

    def _recompile_routes(self, route_ids: Iterable[str], plugins: Mapping[str, WasmPlugin]) -> Steps[None]:
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
        if removed or added:
            self._router = yield from self._router.change(removed, added, self._dropped)
            # A new mapping: the old one belongs to a snapshot.
            self._routes = yield from _replaced(self._routes, removed, added)
            self._dropped += removed

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
            Surroundings(service, plugin_config, self._global, plugins, self._metadata.values),
            lambda: choose_upstream(f"route/{route_id}", spec, service_spec, self._find_upstream, self._upstreams),
            self._routes.get(route_id),
        )
        return RouteEntry(route_id, conditions_of(held, service), route)

    def _find_upstream(self, upstream_id: str) -> UpstreamSpec | None:
        return self._tables.get(UpstreamSpec, "upstreams", upstream_id)


def _replaced(
    routes: dict[str, Route], removed: Iterable[RouteEntry[Route]], added: Iterable[RouteEntry[Route]]
) -> Steps[dict[str, Route]]:
    routes = dict(routes)
    for entry in removed:
        del routes[entry.id]
        yield
    for entry in added:
        routes[entry.id] = entry.target
        yield
    return routes
