"""`python -m data_plane.explain`: which route a request would take, why others do not, and what would happen to it there.

The law: the answer is the router's and the compiler's own, over the configuration as it is in the store; nothing is sent to
anybody and no plugin runs. The request comes on the standard input as JSON, the explanation goes out as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from data_plane.config.compiler import Compiler
from data_plane.config.snapshot import Binding, PluginBinding, Route, Snapshot
from data_plane.config.whole import WholeSource
from data_plane.routing.requirement import Requirement
from data_plane.routing.router import RouteEntry, Router
from data_plane.routing.steps import finish
from data_plane.secrets.values import Values
from data_plane.settings import SettingsError, load
from shared.expression.request import BodyNeeded, RequestVariables
from shared.keys import CONFIG_PREFIX, KINDS, resource_key
from shared.path_pattern import parse_paths
from shared.request_path import PathError, normalise
from shared.schema.document import DocumentError, decode
from shared.secrets.sources import keyring_of
from shared.store.contract import Listing, StoreError
from shared.store.url import open_store

# Routes that were nearly taken.
MOST_OTHERS = 10
CONDITIONS = ("uri", "uris", "host", "hosts", "methods", "remote_addr", "remote_addrs", "vars", "priority")
ANYWHERE = parse_paths(("/*",))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `fields` in order; `host` without port; `target` with its query."""

    method: str
    host: str
    target: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    client: str = "127.0.0.1"
    body: str = ""

    def variables(self) -> RequestVariables:
        """Raises PathError."""
        first = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}"]
        lines = [*first, *(f"{name}: {value}" for name, value in self.fields)]
        path = normalise(self.target.partition("?")[0].encode())
        body = self.body.encode()
        head = "\r\n".join(lines).encode("latin-1", "replace")
        peer = (self.client, 0)
        variables = RequestVariables(
            self.method.encode(), path, self.host.lower().encode(), head, peer, ("127.0.0.1", 9080), length=len(body)
        )
        variables.body = body
        return variables


class Explainer:
    """One configuration."""

    def __init__(self, listing: Listing, compiler: Compiler) -> None:
        self._documents = {entry.key: _document(entry.value) for entry in listing.entries}
        finish(compiler.load(listing))
        compiler.begin()
        self._snapshot: Snapshot = finish(compiler.commit({}))
        self._problems = compiler.problems
        self._entries = compiler.entries

    def explain(self, asked: Asked) -> dict[str, Any]:
        request = asked.variables()
        route = self._snapshot.choose(request)
        others = sorted(self._others(request, route), key=lambda other: (len(other["because"]), other["id"]))
        plugins = self._snapshot.global_bindings if route is None else route.bindings
        return {
            "revision": self._snapshot.revision,
            "request": {"method": asked.method, "host": asked.host, "path": request.path.decode("latin-1")},
            "route": None if route is None else self._route(route),
            "plugins": [self._plugin(binding) for binding in plugins],
            "upstream": None if route is None else self._upstream(route),
            "problem": "route_not_found" if route is None else route.problem,
            "others": others[:MOST_OTHERS],
            "problems": self._problems,
        }

    def _others(self, request: RequestVariables, route: Route | None) -> Iterator[dict[str, Any]]:
        for entry in self._entries:
            if route is None or entry.id != route.id:
                because = list(_against(entry, request))
                # What differs in everything is of no interest.
                if "path" not in because or len(because) == 1:
                    yield {"id": entry.id, "because": because or ["another route comes first"]}

    def _route(self, route: Route) -> dict[str, Any]:
        shown = {"id": route.id, "name": route.name, "service_id": route.service_id, "timeouts": asdict(route.timeouts)}
        document = self._documents.get(resource_key("routes", route.id)) or {}
        return shown | {name: document[name] for name in CONDITIONS if name in document}

    def _plugin(self, binding: Binding) -> dict[str, Any]:
        owner = binding.owner
        shown = {"name": binding.name, "priority": binding.priority, "owner": owner}
        if isinstance(binding, PluginBinding):
            return {**shown, "kind": "wasm", "phase": binding.plugin.phase, "sha256": binding.plugin.sha256}
        return {**shown, "kind": "native"}

    def _upstream(self, route: Route) -> dict[str, Any] | None:
        upstream = route.upstream
        if upstream is None:
            return None
        kind, _, id = upstream.name.partition("/")
        owner = next((known for known in KINDS if known == f"{kind}s"), None)
        document = {} if owner is None else self._documents.get(resource_key(owner, id)) or {}
        spec = document if kind == "upstream" else document.get("upstream") or {}
        named = {name: spec[name] for name in ("type", "nodes", "service_name", "hash_on", "key") if name in spec}
        return {"from": upstream.name, "scheme": upstream.scheme, "pass_host": upstream.pass_host, **named}


def _against(entry: RouteEntry[Route], request: RequestVariables) -> Iterator[str]:
    """What of the route the request does not meet: path, host, method, remote_addr, vars."""
    conditions = entry.conditions
    free = replace(conditions, methods=None, requirement=None, hosts=())
    on_path = _takes(replace(entry, conditions=free), request)
    if not on_path:
        yield "path"
    if not _takes(replace(entry, conditions=replace(free, paths=ANYWHERE, hosts=conditions.hosts)), request):
        yield "host"
    if conditions.methods is not None and request.method not in conditions.methods:
        yield "method"
    requirement = conditions.requirement
    if requirement is None or not on_path:
        # What a variable of the path says, only the path's own pattern knows.
        return
    if not _admits(Requirement(requirement.remote_addrs, None), entry, request):
        yield "remote_addr"
    if not _admits(Requirement(None, requirement.vars), entry, request):
        yield "vars"


def _admits(requirement: Requirement, entry: RouteEntry[Route], request: RequestVariables) -> bool:
    try:
        return any(requirement.admits(request, pattern) for pattern in entry.conditions.paths)
    except BodyNeeded:
        return False


def _takes(entry: RouteEntry[Route], request: RequestVariables) -> bool:
    """Alone in a router, so that it is the router's word."""
    router: Router[Route] = Router(by_requirement=entry.target)
    finish(router.prepare((), (entry,)))()
    return router.match(request.method, request.host, request.path) is not None


def _document(value: bytes) -> dict[str, Any] | None:
    try:
        document = decode(value)
    except DocumentError:
        return None
    return document if isinstance(document, dict) else None


async def explain(url: str, compiler: Compiler, asked: Iterable[Asked]) -> list[dict[str, Any]]:
    async with open_store(url) as store:
        listing = await WholeSource(store).list(CONFIG_PREFIX)
    explainer = Explainer(listing, compiler)
    return [explainer.explain(one) for one in asked]


def main() -> int:
    try:
        settings = load([], os.environ)
        given = json.loads(sys.stdin.read())
        asked = Asked(**{**given, "fields": [(name, value) for name, value in given.get("fields", ())]})
        compiler = Compiler()
        keyring = keyring_of(settings.store, settings.encryption_keys, settings.encryption_keys_file)
        compiler.values = Values(keyring)
        [explained] = asyncio.run(explain(settings.store, compiler, (asked,)))
    except (SettingsError, StoreError, PathError, ValueError, TypeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(explained))
    return 0


if __name__ == "__main__":
    sys.exit(main())
