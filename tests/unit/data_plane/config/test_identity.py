"""What a change does not touch is the same object in the next snapshot, and a long series of changes leads where a fresh
start leads."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_plane.config.snapshot import Route, Snapshot, StreamRoute, Upstream
from shared.keys import Kind
from tests.support.config import UPSTREAM, Config, conf, plugin, wasm

TIMES = {"connect": 1, "send": 2, "read": 3}


@pytest.fixture
def config() -> Config:
    """Routes 1 and 2 share a service (with its plugin and upstream); route 3 stands alone."""
    config = Config()
    config.put("wasm_plugins", "a", plugin(priority=2))
    config.put("wasm_plugins", "b", plugin(priority=1))
    config.put("upstreams", "u", UPSTREAM)
    config.put("services", "s", {"upstream_id": "u", "plugins": {"a": conf({"x": 1})}})
    config.put("routes", "1", {"uri": "/1", "service_id": "s"})
    config.put("routes", "2", {"uri": "/2", "service_id": "s", "plugins": {"b": conf()}})
    config.put("routes", "3", {"uri": "/3", "upstream": UPSTREAM, "plugins": {"b": conf()}})
    return config


def test_two_routes_of_one_service_share_its_upstream_but_not_its_plugin(config: Config) -> None:
    snapshot = config.commit()
    one, two = snapshot.routes["1"], snapshot.routes["2"]
    assert one.upstream is two.upstream
    assert one.bindings[0] is not two.bindings[0]
    assert wasm(one.bindings)[0].plugin is wasm(two.bindings)[0].plugin


def test_everything_rewritten_with_equal_values_is_what_it_was(config: Config) -> None:
    before = config.commit()
    for key, entry in list(config.entries.items()):
        _, _, kind, id = key.split("/")
        config.put(kind, id, entry.value)  # type: ignore[arg-type]  # the kinds of existing keys
    after = config.commit()
    assert all(after.routes[id] is route for id, route in before.routes.items())
    assert all(after.plugins[name] is plugin for name, plugin in before.plugins.items())
    assert after.revision > before.revision


def test_a_listing_compiles_nothing_again(config: Config) -> None:
    before = config.commit()
    after = config.reload()
    assert all(after.routes[id] is route for id, route in before.routes.items())


def test_one_changed_conf_changes_one_binding(config: Config) -> None:
    before = config.commit()
    config.put("routes", "2", {"uri": "/2", "service_id": "s", "plugins": {"b": conf("new")}})
    after = config.commit()
    assert after.routes["1"] is before.routes["1"]
    assert after.routes["3"] is before.routes["3"]
    old, new = before.routes["2"], after.routes["2"]
    assert (new.bindings[0] is old.bindings[0], new.bindings[1] is old.bindings[1]) == (True, False)
    assert new.upstream is old.upstream


@pytest.mark.parametrize(("value", "same"), [({"x": 1}, True), ({"x": True}, False), ({"x": 1.0}, False)])
def test_a_conf_is_compared_as_the_plugin_sees_it(config: Config, value: dict[str, object], same: bool) -> None:
    before = config.commit().routes["1"].bindings[0]
    config.put("services", "s", {"upstream_id": "u", "plugins": {"a": conf(value)}})
    assert (config.commit().routes["1"].bindings[0] is before) == same


def test_a_changed_upstream_keeps_the_bindings_of_its_routes(config: Config) -> None:
    before = config.commit()
    config.put("upstreams", "u", {"nodes": {"127.0.0.1:1980": 2}})
    after = config.commit()
    assert after.routes["1"].bindings[0] is before.routes["1"].bindings[0]
    assert after.routes["1"].upstream is after.routes["2"].upstream
    assert after.routes["3"] is before.routes["3"]


def test_new_nodes_of_an_upstream_are_nothing_to_its_routes(config: Config) -> None:
    before = config.commit()
    upstream = before.routes["1"].upstream
    assert upstream is not None
    config.put("upstreams", "u", {"nodes": {"new.test": 1}, "pass_host": "node"})
    after = config.commit()
    assert all(after.routes[id] is route for id, route in before.routes.items())
    assert after.routes["1"].upstream is upstream
    node = upstream.picker.pick()
    assert node is not None
    assert (node.host, upstream.pass_host) == ("new.test", "node")


def test_a_service_with_new_nodes_leaves_its_routes_as_they_are(config: Config) -> None:
    config.put("services", "s", {"upstream": {"nodes": {"old.test": 1}}})
    before = config.commit()
    config.put("services", "s", {"upstream": {"nodes": {"new.test": 1}}})
    after = config.commit()
    assert all(after.routes[id] is route for id, route in before.routes.items())
    upstream = after.routes["1"].upstream
    assert upstream is not None
    node = upstream.picker.pick()
    assert node is not None
    assert node.host == "new.test"


@pytest.mark.parametrize(
    ("change", "upstream", "problem"),
    [
        ({"nodes": {"a.test": 0}}, False, "no_nodes"),
        ({"nodes": {"a.test": 1}, "timeout": TIMES}, True, None),
    ],
)
def test_what_routes_take_from_their_upstream_reaches_them(
    config: Config, change: dict[str, object], upstream: bool, problem: str | None
) -> None:
    config.commit()
    config.put("upstreams", "u", change)
    after = config.commit().routes["1"]
    assert (after.upstream is not None, after.problem) == (upstream, problem)
    assert after.timeouts.read == (3 if upstream else 60)
    config.put("upstreams", "u", UPSTREAM)
    assert config.commit().routes["1"].timeouts.read == 60


def test_new_timeouts_of_an_upstream_leave_its_routes_as_they_are(config: Config) -> None:
    """100,000 routes may share them."""
    before = config.commit()
    config.put("upstreams", "u", {**UPSTREAM, "timeout": TIMES})
    after = config.commit()
    assert all(after.routes[id] is route for id, route in before.routes.items())
    assert after.routes["1"].timeouts.read == 3


def test_timeouts_of_a_route_that_are_those_of_its_upstream_by_chance_are_its_own(config: Config) -> None:
    config.put("upstreams", "u", {**UPSTREAM, "timeout": TIMES})
    config.put("routes", "own", {"uri": "/own", "upstream_id": "u", "timeout": TIMES})
    config.put("routes", "comes", {"uri": "/comes", "upstream_id": "u", "timeout": TIMES})
    config.put("routes", "goes", {"uri": "/goes", "upstream_id": "u"})
    config.commit()
    config.put("routes", "comes", {"uri": "/comes", "upstream_id": "u"})
    config.put("routes", "goes", {"uri": "/goes", "upstream_id": "u", "timeout": TIMES})
    config.commit()
    config.put("upstreams", "u", UPSTREAM)
    routes = config.commit().routes
    assert {id: routes[id].timeouts.read for id in ("own", "comes", "goes")} == {"own": 3, "comes": 60, "goes": 3}


def test_until_the_snapshot_is_made_nothing_of_it_is_seen(config: Config) -> None:
    """Not even of the upstreams that are renewed in place."""
    before = config.commit()
    upstream = before.routes["1"].upstream
    assert upstream is not None
    config.put("upstreams", "u", {"nodes": {"new.test": 1}})
    config.put("routes", "1", {"uri": "/moved", "service_id": "s"})
    steps = config.steps()
    seen = set()
    try:
        while True:
            next(steps)
            node = upstream.picker.pick()
            assert node is not None
            seen.add((node.host, before.router.match(b"GET", b"h", b"/1") is before.routes["1"]))
    except StopIteration as end:
        after: Snapshot = end.value
    assert seen == {("127.0.0.1", True)}
    node = upstream.picker.pick()
    assert node is not None
    assert node.host == "new.test"
    assert after.router.match(b"GET", b"h", b"/1") is None


def test_a_changed_path_keeps_the_route_object(config: Config) -> None:
    before = config.commit()
    config.put("routes", "3", {"uri": "/moved", "upstream": UPSTREAM, "plugins": {"b": conf()}})
    after = config.commit()
    assert after.router.match(b"GET", b"h", b"/moved") is before.routes["3"]
    assert after.router.match(b"GET", b"h", b"/3") is None


def test_a_balancer_goes_on_where_it_was(config: Config) -> None:
    config.put("upstreams", "u", {"nodes": {"a.test": 1, "b.test": 1}})
    upstream = config.route("1").upstream
    assert upstream is not None
    upstream.picker.pick()
    config.put("upstreams", "u", {"nodes": {"a.test": 1, "b.test": 1}, "desc": "for people only"})
    config.put("services", "s", {"upstream_id": "u", "desc": "the same"})
    again = config.route("1").upstream
    assert again is upstream
    assert (node := upstream.picker.pick()) is not None
    assert node.host == "b.test"


def test_a_new_global_rule_changes_every_route_but_none_of_its_own_bindings(config: Config) -> None:
    before = config.commit()
    config.put("global_rules", "g", {"plugins": {"a": conf()}})
    after = config.commit()
    for id, route in before.routes.items():
        assert after.routes[id] is not route
        assert after.routes[id].bindings[0] is after.global_bindings[0]
        assert [*map(id_of, after.routes[id].bindings[1:])] == [*map(id_of, route.bindings)]


id_of: Callable[[object], int] = id


# A series of random edits. No edit here is one that keeps a last good version: what a worker serves then depends on
# what it saw before, and test_last_good.py holds that.

PATHS = ["/a", "/b", "/a/*", "/:x", "/a/:x", "/*"]
HOSTS = ["h.test", "*.test", "i.test"]
PLUGINS = ["a", "b", "c"]
IDS = ["1", "2", "3"]


class Editor:
    """Turns a stream of random numbers into edits that the Admin API would accept (or force through)."""

    def __init__(self, choose: random.Random) -> None:
        self.config = Config()
        self.choose = choose
        for name in PLUGINS:
            self.config.put("wasm_plugins", name, plugin())

    def edit(self) -> None:
        rare: list[Kind] = ["services", "upstreams", "plugin_configs", "global_rules", "stream_routes", "wasm_plugins"]
        kind: Kind = self.choose.choice(["routes", "routes", "routes", *rare])
        id = self.choose.choice(PLUGINS if kind == "wasm_plugins" else [*IDS, "4", "5"] if kind == "routes" else IDS)
        exists = f"/apisix/{kind}/{id}" in self.config.entries
        if exists and kind != "wasm_plugins" and self.choose.random() < 0.25:
            self.config.delete(kind, id)
        else:
            self.config.put(kind, id, self._document(kind))

    def _document(self, kind: Kind) -> dict[str, object]:
        match kind:
            case "routes":
                return {"uri": self._one(PATHS), **self._maybe(host=self._one(HOSTS), **self._route())}
            case "services":
                return self._maybe(hosts=[self._one(HOSTS)], plugins=self._plugins(), **self._upstream())
            case "upstreams":
                return self._nodes()
            case "plugin_configs" | "global_rules":
                return {"plugins": self._plugins()}
            case "stream_routes":
                return {**self._maybe(server_port=self.choose.randrange(1, 3), plugins=self._plugins()), **self._somewhere()}
            case "wasm_plugins":
                phase = self._one(["access", "rewrite"])
                return plugin(priority=self.choose.randrange(3), http_request_phase=phase)
            case _:
                raise AssertionError(f"no {kind} here")

    def _route(self) -> dict[str, object]:
        return {
            "plugins": self._plugins(),
            "service_id": self._one(IDS),
            "plugin_config_id": self._one(IDS),
            "methods": [self._one(["GET", "PUT"])],
            "priority": self.choose.randrange(3),
            "status": self._one([0, 1, 1, 1]),
            "timeout": {"connect": 1, "send": 2, "read": self.choose.randrange(1, 3)},
            **self._upstream(),
        }

    def _upstream(self) -> dict[str, object]:
        return {"upstream_id": self._one(IDS), "upstream": self._nodes()}

    def _somewhere(self) -> dict[str, object]:
        name, value = self.choose.choice([("service_id", self._one(IDS)), *self._upstream().items()])
        return {name: value}

    def _nodes(self) -> dict[str, object]:
        return {"nodes": {f"{host}.test": self.choose.randrange(3) for host in "ab" if self.choose.random() < 0.8}}

    def _plugins(self) -> dict[str, object]:
        return {
            name: conf(self._one(["x", "y"]), disable=self._one([True, False, False]))
            for name in PLUGINS
            if self.choose.random() < 0.4
        }

    def _maybe(self, **fields: object) -> dict[str, object]:
        kept = {name: value for name, value in fields.items() if self.choose.random() < 0.4}
        # A route has to have at least one of those that make it one.
        return kept if kept.keys() & {"plugins", "service_id", "upstream", "upstream_id"} else {**kept, "plugins": {}}

    def _one(self, values: list[object] | list[str] | list[int] | list[bool]) -> object:
        return self.choose.choice(values)


def described_upstream(upstream: Upstream | None) -> object:
    if upstream is None:
        return None
    picks = sorted(str(upstream.picker.pick()) for _ in range(12))
    return upstream.name, upstream.pass_host, upstream.timeouts, upstream.keepalive_pool, picks


def described(route: Route | StreamRoute) -> object:
    bindings = [(b.owner, b.plugin.name, b.plugin.phase, b.priority, b.configuration) for b in wasm(route.bindings)]
    about: tuple[object, ...] = (route.id, route.name, route.problem)
    if isinstance(route, Route):
        about += (route.service_id, route.timeouts)
    return about, described_upstream(route.upstream), bindings


def matches(snapshot: Snapshot) -> list[str | None]:
    found = []
    for method in (b"GET", b"PUT"):
        for host in (b"h.test", b"i.test", b"x.test", b"other"):
            for path in (b"/a", b"/b", b"/c", b"/a/b", b"/a/b/c", b"/"):
                route = snapshot.router.match(method, host, path)
                found.append(route.id if route else None)
    for port in (1, 2, 3):
        taken = snapshot.stream_router.match("192.0.2.1", "10.0.0.1", port, b"")
        found.append(taken.id if taken else None)
    return found


def all_routes(snapshot: Snapshot) -> dict[str, Route | StreamRoute]:
    """By owner, as bindings name them."""
    streams = {f"stream_route/{id}": route for id, route in snapshot.stream_routes.items()}
    return {**{f"route/{id}": route for id, route in snapshot.routes.items()}, **streams}


def assert_as_from_scratch(config: Config, snapshot: Snapshot) -> None:
    fresh = config.from_scratch()
    assert {owner: described(route) for owner, route in all_routes(snapshot).items()} == {
        owner: described(route) for owner, route in all_routes(fresh).items()
    }
    assert matches(snapshot) == matches(fresh)
    assert snapshot.plugins.keys() == fresh.plugins.keys()


def assert_kept(before: Snapshot, after: Snapshot) -> None:
    """What says the same is the same object."""
    routes = all_routes(before)
    for owner, new in all_routes(after).items():
        old = routes.get(owner)
        if old is None:
            continue
        in_use = {(b.owner, id_of(b.plugin), b.configuration, b.priority): b for b in wasm(old.bindings)}
        for b in wasm(new.bindings):
            assert in_use.get((b.owner, id_of(b.plugin), b.configuration, b.priority), b) is b
        same_parts = new.upstream is old.upstream and [*map(id_of, new.bindings)] == [*map(id_of, old.bindings)]
        assert new is old or not same_parts or described(new) != described(old)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_edits_lead_where_a_fresh_start_leads(choose: random.Random, sizes: list[int]) -> None:
    editor = Editor(choose)
    for size in sizes:
        for _ in range(size):
            editor.edit()
        assert_as_from_scratch(editor.config, editor.config.commit())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_edits(seed: int) -> None:
    editor = Editor(random.Random(seed))
    snapshot = editor.config.commit()
    for number in range(1000):
        editor.edit()
        before, snapshot = snapshot, editor.config.commit()
        assert_kept(before, snapshot)
        if number % 20 == 0:
            assert_as_from_scratch(editor.config, snapshot)
            assert editor.config.compiler.problems.keys() <= {f"/apisix/global_rules/{id}" for id in IDS}
