"""A bad item keeps its last good version, is reported under its key, and stops nothing else."""

from __future__ import annotations

import pytest

from data_plane.config.tables import LOST
from shared.keys import Kind
from tests.support.config import UPSTREAM, Config, conf, plugin, wasm

OTHER_SHA = "f" * 64


@pytest.fixture
def config() -> Config:
    """Route 1 with plugin `guard`, route 2 without."""
    config = Config()
    config.put("wasm_plugins", "guard", plugin())
    config.put("routes", "1", {"uri": "/1", "upstream": UPSTREAM, "plugins": {"guard": conf()}})
    config.put("routes", "2", {"uri": "/2", "upstream": UPSTREAM})
    config.commit()
    return config


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"{", "line 1 column 2"),
        (b"\xff", "UTF-8"),
        (b"null", "expected object, got null"),
        (b'{"uri": "/x", "uri": "/y"}', "duplicate key"),
        ({"uri": 5, "upstream": UPSTREAM}, 'property "uri" validation failed: wrong type: expected string, got number'),
        ({"uri": "/x", "upstream": UPSTREAM, "colour": "red"}, "additional properties forbidden, found colour"),
        ({"uri": "/a/../x", "upstream": UPSTREAM}, "dot segment"),
        ({"uri": "/x", "upstream": UPSTREAM, "plugins": {"nope": conf()}}, r"plugins that cannot run here: \[nope\]"),
    ],
)
def test_a_bad_route(config: Config, value: bytes | dict[str, object], problem: str) -> None:
    before = config.commit()
    config.put("routes", "1", value)
    config.put("routes", "3", {"uri": "/3", "upstream": UPSTREAM})
    snapshot = config.commit()
    assert snapshot.routes["1"] is before.routes["1"]
    assert snapshot.router.match(b"GET", b"h", b"/1") is before.routes["1"]
    assert snapshot.router.match(b"GET", b"h", b"/3") is snapshot.routes["3"]
    assert list(config.compiler.problems) == ["/apisix/routes/1"]
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(config.compiler.problems["/apisix/routes/1"])
    config.put("routes", "1", {"uri": "/good", "upstream": UPSTREAM})
    assert config.commit().router.match(b"GET", b"h", b"/good") is not None
    assert config.compiler.problems == {}


@pytest.mark.parametrize("kind", ["services", "upstreams", "plugin_configs", "global_rules", "wasm_plugins"])
def test_a_bad_item_of_any_kind(config: Config, kind: Kind) -> None:
    config.put("upstreams", "x", UPSTREAM)
    config.put("services", "x", {"plugins": {"guard": conf("service")}})
    config.put("plugin_configs", "x", {"plugins": {"guard": conf("config")}})
    config.put("global_rules", "x", {"plugins": {"guard": conf("rule")}})
    config.put("wasm_plugins", "x", plugin())
    config.put("routes", "x", {"uri": "/x", "service_id": "x", "plugin_config_id": "x", "upstream_id": "x"})
    before = config.commit()
    config.put(kind, "x", b"[]")
    snapshot = config.commit()
    assert snapshot.routes["x"] is before.routes["x"]
    assert snapshot.plugins["x"] is before.plugins["x"]
    assert list(config.compiler.problems) == [f"/apisix/{kind}/x"]
    config.delete(kind, "x")
    config.commit()
    assert config.compiler.problems == {}


def test_the_last_good_version_follows_what_it_inherits(config: Config) -> None:
    config.put("upstreams", "u", UPSTREAM)
    config.put("routes", "1", {"uri": "/1", "upstream_id": "u"})
    config.commit()
    config.put("routes", "1", {"uri": "/1", "upstream_id": "u", "plugins": {"nope": conf()}})
    config.commit()
    config.put("upstreams", "u", {"nodes": {"new.test": 1}})
    upstream = config.route("1").upstream
    assert upstream is not None
    assert (node := upstream.picker.pick()) is not None
    assert node.host == "new.test"


def test_without_a_good_version_a_valid_route_is_closed_and_an_invalid_one_left_out(config: Config) -> None:
    config.put("routes", "3", {"uri": "/1*", "priority": 9, "upstream": UPSTREAM, "plugins": {"nope": conf()}})
    config.put("routes", "4", b"nonsense")
    config.put("routes", "5", {"uri": "/a?b", "upstream": UPSTREAM})
    snapshot = config.commit()
    assert (snapshot.routes["3"].problem, snapshot.routes["3"].bindings) == ("plugin_missing", ())
    found = snapshot.router.match(b"GET", b"h", b"/1x")
    assert found is snapshot.routes["3"]
    assert sorted(snapshot.routes) == ["1", "2", "3"]
    assert sorted(config.compiler.problems) == [f"/apisix/routes/{id}" for id in "345"]


def test_a_service_without_a_good_version_closes_its_routes(config: Config) -> None:
    config.put("services", "s", {"plugins": {"nope": conf()}, "upstream": UPSTREAM})
    config.put("routes", "3", {"uri": "/3", "service_id": "s"})
    config.put("routes", "4", {"uri": "/4", "service_id": "s", "plugins": {"nope": conf(disable=True)}})
    snapshot = config.commit()
    assert (snapshot.routes["3"].problem, snapshot.routes["4"].problem) == ("plugin_missing", None)
    assert "requests that need it are refused" in config.compiler.problems["/apisix/services/s"]


def test_a_global_rule_that_was_never_good_closes_all_routes(config: Config) -> None:
    config.put("global_rules", "g", {"plugins": {"nope": conf()}})
    snapshot = config.commit()
    assert {route.problem for route in snapshot.routes.values()} == {"plugin_missing"}
    config.put("wasm_plugins", "nope", plugin())
    snapshot = config.commit()
    assert {route.problem for route in snapshot.routes.values()} == {None}
    assert [binding.owner for binding in snapshot.routes["2"].bindings] == ["global_rule/g"]


def test_a_global_rule_that_was_good_keeps_running(config: Config) -> None:
    config.put("global_rules", "g", {"plugins": {"guard": conf("v1")}})
    before = config.commit()
    config.put("global_rules", "g", {"plugins": {"guard": conf("v2"), "nope": conf()}})
    snapshot = config.commit()
    assert snapshot.global_bindings == before.global_bindings
    assert snapshot.routes["2"] is before.routes["2"]


@pytest.mark.parametrize("value", [plugin(module={"sha256": OTHER_SHA}), {"priority": 1}])
def test_a_plugin_without_a_usable_module_keeps_its_last_good_version(config: Config, value: dict[str, object]) -> None:
    before = config.commit()
    config.unusable["guard"] = "imports env.unknown"
    config.put("wasm_plugins", "guard", value)
    snapshot = config.commit()
    assert snapshot.routes["1"] is before.routes["1"]
    assert snapshot.plugins["guard"] is before.plugins["guard"]
    problem = config.compiler.problems["/apisix/wasm_plugins/guard"]
    assert problem.startswith(("has an unusable module: imports env.unknown", "has no module"))
    config.unusable.clear()
    config.put("wasm_plugins", "guard", plugin(module={"sha256": OTHER_SHA}))
    snapshot = config.commit()
    assert wasm(snapshot.routes["1"].bindings)[0].plugin.sha256 == OTHER_SHA
    assert config.compiler.problems == {}


def test_a_plugin_that_was_never_usable_closes_the_routes_that_name_it() -> None:
    config = Config()
    config.unusable["guard"] = "not Wasm"
    config.put("wasm_plugins", "guard", plugin())
    config.put("routes", "1", {"uri": "/1", "upstream": UPSTREAM, "plugins": {"guard": conf()}})
    assert config.route("1").problem == "plugin_missing"
    assert sorted(config.compiler.problems) == ["/apisix/routes/1", "/apisix/wasm_plugins/guard"]


def test_a_deleted_plugin_runs_on_where_it_ran_and_nowhere_else(config: Config) -> None:
    before = config.commit()
    config.delete("wasm_plugins", "guard")
    snapshot = config.commit()
    assert snapshot.routes["1"] is before.routes["1"]
    assert snapshot.plugins["guard"] is before.plugins["guard"]
    assert list(config.compiler.problems) == ["/apisix/routes/1"]

    config.put("routes", "1", {"uri": "/moved", "upstream": UPSTREAM, "plugins": {"guard": conf()}})
    assert config.commit().routes["1"] is before.routes["1"]
    config.put("routes", "1", {"uri": "/1", "upstream": UPSTREAM})
    snapshot = config.commit()
    assert (snapshot.routes["1"].bindings, snapshot.plugins, config.compiler.problems) == ((), {}, {})


def test_a_plugin_that_comes_back_unchanged_is_the_same_plugin(config: Config) -> None:
    before = config.commit()
    config.delete("wasm_plugins", "guard")
    config.commit()
    config.put("wasm_plugins", "guard", plugin())
    snapshot = config.commit()
    assert snapshot.plugins["guard"] is before.plugins["guard"]
    assert snapshot.routes["1"] is before.routes["1"]
    assert config.compiler.problems == {}


def test_keys_that_are_no_resources_are_passed_over(config: Config) -> None:
    entry = config.listing().entries[0]
    for key in ("/apisix/routes/", "/apisix/consumers/", "/apisix/plugins", "/apisix/routes/1/2"):
        config.entries[key] = type(entry)(key, b"init_dir", 1, 1)
    config.reload()
    assert config.compiler.problems == {}


def test_a_listing_of_the_same_history_deletes_what_it_lacks(config: Config) -> None:
    del config.entries["/apisix/routes/2"]
    config.revision += 1
    before = config.commit()
    del config.entries["/apisix/routes/1"]
    config.revision += 1
    snapshot = config.reload()
    assert (sorted(before.routes), sorted(snapshot.routes)) == (["1", "2"], [])


def wipe(config: Config) -> None:
    config.entries.clear()
    config.revision = 1


def test_a_wiped_store_takes_no_routes_away(config: Config) -> None:
    before = config.commit()
    wipe(config)
    snapshot = config.reload()
    assert snapshot.routes == before.routes
    assert snapshot.revision == 1
    assert config.compiler.problems == dict.fromkeys(config.compiler.problems, LOST)
    assert len(config.compiler.problems) == 3

    # A second listing of the new history changes nothing, writes to it count, and so does a deletion.
    config.put("routes", "2", {"uri": "/new", "upstream": UPSTREAM})
    snapshot = config.reload()
    assert snapshot.routes["1"] is before.routes["1"]
    assert snapshot.router.match(b"GET", b"h", b"/new") is snapshot.routes["2"]
    assert sorted(config.compiler.problems) == ["/apisix/routes/1", "/apisix/wasm_plugins/guard"]
    config.put("routes", "1", {"uri": "/1", "upstream": UPSTREAM})
    config.delete("routes", "1")
    assert sorted(config.commit().routes) == ["2"]


def test_a_wiped_store_that_has_outgrown_its_past_is_known_by_its_old_entries(config: Config) -> None:
    before = config.commit()
    wipe(config)
    config.put("routes", "3", {"uri": "/3", "upstream": UPSTREAM})
    config.revision = 99
    snapshot = config.reload()
    assert sorted(snapshot.routes) == ["1", "2", "3"]
    assert snapshot.routes["1"] is before.routes["1"]


def test_an_entry_restored_from_a_backup_counts(config: Config) -> None:
    backup = dict(config.entries)
    config.put("routes", "2", {"uri": "/changed", "upstream": UPSTREAM})
    config.commit()
    config.entries, config.revision = backup, 3
    assert config.reload().router.match(b"GET", b"h", b"/2") is not None
