"""Native plugins in the compiled configuration: what runs where, what stays, and what a change touches."""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import NativeBinding, Route
from shared.plugin.builtin.redirect import Redirect
from tests.support.config import UPSTREAM, Config, conf, plugin


@pytest.fixture
def config() -> Config:
    config = Config()
    config.put("wasm_plugins", "w", plugin())
    return config


def names(route: Route) -> list[str]:
    return [binding.name for binding in route.bindings]


def natives(route: Route) -> list[NativeBinding]:
    return [binding for binding in route.bindings if isinstance(binding, NativeBinding)]


def test_only_native_plugins_have_a_program(config: Config) -> None:
    config.put("routes", "native", {"uri": "/1", "plugins": {"cors": {}}, "upstream": UPSTREAM})
    config.put("routes", "mixed", {"uri": "/2", "plugins": {"cors": {}, "w": conf()}, "upstream": UPSTREAM})
    config.put("routes", "none", {"uri": "/3", "upstream": UPSTREAM})
    routes = config.commit().routes
    assert [(name, routes[name].program is not None) for name in ("native", "mixed", "none")] == [
        *(("native", True), ("mixed", False), ("none", False)),
    ]


def test_they_are_inherited_by_whole_names_and_ordered_by_priority(config: Config) -> None:
    config.put(
        "services", "s", {"plugins": {"cors": {"max_age": 1}, "echo": {"body": "x"}, "mocking": {"response_example": "x"}}}
    )
    config.put("plugin_configs", "p", {"plugins": {"cors": {"max_age": 2}, "redirect": {"uri": "/x"}}})
    own = {
        "mocking": {"response_example": "y", "_meta": {"disable": True}},
        "redirect": {"uri": "/y", "_meta": {"priority": 9999}},
    }
    config.put("routes", "1", {"uri": "/", "plugins": own, "plugin_config_id": "p", "service_id": "s"})
    route = config.route("1")
    assert names(route) == ["redirect", "cors", "echo"]
    bound = {binding.name: binding.bound.plugin.config for binding in natives(route)}
    assert (bound["cors"].max_age, bound["redirect"].uri) == (2, "/y")


def test_global_rules_come_first_in_each_phase(config: Config) -> None:
    config.put("global_rules", "1", {"plugins": {"echo": {"headers": {"a": "b"}}}})
    config.put("routes", "1", {"uri": "/", "plugins": {"request-id": {}}, "upstream": UPSTREAM})
    snapshot = config.commit()
    route = snapshot.routes["1"]
    assert names(route) == ["echo", "request-id"]
    assert route.program is not None
    assert [type(step.__self__).__name__ for step in route.program.header_filter] == ["Echo", "RequestId"]  # type: ignore[attr-defined]
    # Requests without a route have them too.
    assert snapshot.global_program is not None
    config.delete("global_rules", "1")
    assert config.commit().global_program is None


def test_what_says_the_same_is_the_same_plugin(config: Config) -> None:
    document = {"uri": "/", "plugins": {"cors": {}, "redirect": {"uri": "/x", "_meta": {"filter": [["uri", "==", "/"]]}}}}
    config.put("routes", "1", {**document, "upstream": UPSTREAM})
    before = natives(config.route("1"))
    config.put("routes", "1", {**document, "upstream": UPSTREAM, "desc": "other words"})
    assert [now is then for now, then in zip(natives(config.route("1")), before, strict=True)] == [True, True]
    plugins = {**document["plugins"], "cors": {"max_age": 9}}  # type: ignore[dict-item]
    config.put("routes", "1", {**document, "plugins": plugins, "upstream": UPSTREAM})
    assert [now is then for now, then in zip(natives(config.route("1")), before, strict=True)] == [False, True]


def test_metadata_makes_its_plugins_anew_and_no_others(config: Config) -> None:
    plugins = {"redirect": {"http_to_https": True}, "cors": {}}
    config.put("routes", "1", {"uri": "/", "plugins": plugins, "upstream": UPSTREAM})
    config.put("global_rules", "1", {"plugins": {"redirect": {"http_to_https": True}}})
    before = config.commit()
    config.put("plugin_metadata", "redirect", {"https_port": 8443})
    after = config.commit()
    old, new = natives(before.routes["1"]), natives(after.routes["1"])
    assert [now is then for now, then in zip(new, old, strict=True)] == [False, True, False]
    assert [isinstance(binding.bound.plugin, Redirect) for binding in new] == [True, False, True]
    # One that the plugin refuses leaves the last good one.
    config.put("plugin_metadata", "redirect", {"https_port": "x"})
    assert config.commit().routes["1"] is after.routes["1"]
    assert "https_port" in config.compiler.problems["/apisix/plugin_metadata/redirect"]
    config.delete("plugin_metadata", "redirect")
    assert config.commit().routes["1"].bindings != after.routes["1"].bindings
    assert not config.compiler.problems


def test_a_bad_configuration_in_the_store_leaves_the_last_good_one(config: Config) -> None:
    config.put("routes", "1", {"uri": "/", "plugins": {"cors": {}}, "upstream": UPSTREAM})
    before = config.route("1")
    config.put("routes", "1", {"uri": "/", "plugins": {"cors": {"max_age": "x"}}, "upstream": UPSTREAM})
    assert config.route("1") is before
    assert "plugin cors" in config.compiler.problems["/apisix/routes/1"]


def test_a_route_s_own_prometheus_stands_for_that_of_a_global_rule(config: Config) -> None:
    """APISIX's `run_policy: prefer_route`: else each request would count twice."""
    config.put("global_rules", "g", {"plugins": {"prometheus": {}}})
    config.put("routes", "1", {"uri": "/1", "plugins": {"prometheus": {"prefer_name": True}}, "upstream": UPSTREAM})
    config.put("routes", "2", {"uri": "/2", "upstream": UPSTREAM})
    routes = config.commit().routes
    assert [[binding.owner for binding in routes[number].bindings] for number in "12"] == [["route/1"], ["global_rule/g"]]
