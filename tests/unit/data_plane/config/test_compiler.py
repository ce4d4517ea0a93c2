"""What is compiled from what: inheritance, problems, order of plugins, and what a bad item does (nothing to the others)."""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import KeepalivePool, Limits, Node, Route, Snapshot, Timeouts
from tests.support.config import SHA, UPSTREAM, Config, conf, plugin, wasm


@pytest.fixture
def config() -> Config:
    """Plugins `a` (priority 30), `b` (20), `early` (10, rewrite phase); upstreams, a service and a plugin_config."""
    config = Config()
    config.put("wasm_plugins", "a", plugin(priority=30))
    config.put("wasm_plugins", "b", plugin(priority=20))
    config.put("wasm_plugins", "early", plugin(priority=10, http_request_phase="rewrite"))
    config.put("upstreams", "u", {"nodes": {"u.test": 1}})
    config.put("upstreams", "v", {"nodes": {"v.test": 1}})
    config.put("upstreams", "none", {"nodes": []})
    config.put("upstreams", "resting", {"nodes": {"r.test": 0}})
    config.put("services", "s", {"upstream_id": "u", "hosts": ["s.test"], "plugins": {"a": conf("service")}})
    config.put("services", "inline", {"upstream": {"nodes": {"i.test": 1}}})
    config.put("plugin_configs", "p", {"plugins": {"a": conf("config"), "b": conf("config")}})
    return config


def bindings(route: Route) -> list[tuple[str, str, bytes]]:
    return [(binding.owner, binding.plugin.name, binding.configuration) for binding in wasm(route.bindings)]


def authority(route: Route) -> bytes | None:
    node = route.upstream.picker.pick() if route.upstream else None
    return node.authority if node else None


@pytest.mark.parametrize(
    ("fields", "upstream", "problem"),
    [
        ({"upstream": {"nodes": {"r.test": 1}}}, b"r.test", None),
        ({"upstream_id": "v"}, b"v.test", None),
        ({"upstream_id": "v", "upstream": {"nodes": {"r.test": 1}}}, b"v.test", None),
        ({"service_id": "s"}, b"u.test", None),
        ({"service_id": "s", "upstream_id": "v"}, b"v.test", None),
        ({"service_id": "s", "upstream": {"nodes": {"r.test": 1}}}, b"r.test", None),
        ({"service_id": "inline"}, b"i.test", None),
        ({"plugins": {}}, None, "upstream_missing"),
        ({"upstream_id": "nope"}, None, "upstream_not_found"),
        ({"upstream_id": "none"}, None, "no_nodes"),
        ({"upstream_id": "resting"}, None, "no_nodes"),
        ({"upstream": {"nodes": {}}}, None, "no_nodes"),
        ({"service_id": "nope"}, None, "service_missing"),
        ({"service_id": "nope", "upstream_id": "u"}, None, "service_missing"),
        ({"plugin_config_id": "nope", "upstream_id": "u"}, None, "plugin_config_missing"),
        ({"plugin_config_id": "nope", "service_id": "nope"}, None, "plugin_config_missing"),
        ({"plugins": {"nope": conf()}, "upstream_id": "u"}, None, "plugin_missing"),
        ({"plugins": {"nope": conf(disable=True)}, "upstream_id": "u"}, b"u.test", None),
    ],
)
def test_upstream_and_problem(config: Config, fields: dict[str, object], upstream: bytes | None, problem: str | None) -> None:
    config.put("routes", "1", {"uri": "/", **fields})
    route = config.route("1")
    assert (authority(route), route.problem) == (upstream, problem)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"plugins": {"b": conf(), "a": conf()}}, ["a on", "b on"]),
        ({"plugins": {"a": conf(), "b": conf(), "early": conf()}}, ["early on", "a on", "b on"]),
        ({"plugins": {"a": conf(), "b": conf(priority=31)}}, ["b on", "a on"]),
        ({"plugins": {"a": conf(disable=True), "b": conf()}}, ["b on"]),
        ({"service_id": "s"}, ["a service"]),
        ({"service_id": "s", "plugin_config_id": "p"}, ["a config", "b config"]),
        ({"service_id": "s", "plugin_config_id": "p", "plugins": {"b": conf("own")}}, ["a config", "b own"]),
        ({"service_id": "s", "plugins": {"a": conf(disable=True)}}, []),
        ({"plugins": {"a": conf({"k": [1, "é"], "b": {}})}}, ['a {"k":[1,"é"],"b":{}}']),
        ({"plugins": {"a": conf(" verbatim\n")}}, ["a  verbatim\n"]),
        # Without an upstream the plugins still run: one of them may answer.
        ({"plugins": {"a": conf()}}, ["a on"]),
        # What stands before plugins leaves none.
        ({"plugins": {"a": conf()}, "service_id": "nope"}, []),
    ],
)
def test_plugins_of_a_route(config: Config, fields: dict[str, object], expected: list[str]) -> None:
    config.put("routes", "1", {"uri": "/", **fields})
    found = bindings(config.route("1"))
    assert [f"{name} {configuration.decode()}" for _, name, configuration in found] == expected
    assert {owner for owner, _, _ in found} <= {"route/1"}


def test_global_plugins_run_first_and_are_shared(config: Config) -> None:
    config.put("global_rules", "g2", {"plugins": {"a": conf("g2")}})
    config.put("global_rules", "g1", {"plugins": {"b": conf("g1"), "early": conf("g1")}})
    config.put("routes", "1", {"uri": "/1", "plugins": {"a": conf("own")}, "upstream": UPSTREAM})
    config.put("routes", "2", {"uri": "/2", "service_id": "nope"})
    snapshot = config.commit()
    one, two = snapshot.routes["1"].bindings, snapshot.routes["2"].bindings
    assert bindings(snapshot.routes["1"]) == [
        ("global_rule/g1", "early", b"g1"),
        ("global_rule/g2", "a", b"g2"),
        ("global_rule/g1", "b", b"g1"),
        ("route/1", "a", b"own"),
    ]
    assert one[:3] == snapshot.global_bindings
    # What stands before plugins leaves none.
    assert two == ()


def test_a_plugin_in_two_global_rules_runs_as_the_first_says(config: Config) -> None:
    config.put("global_rules", "g2", {"plugins": {"a": conf("g2"), "b": conf("g2")}})
    config.put("global_rules", "g1", {"plugins": {"a": conf("g1")}})
    found = [(binding.owner, binding.plugin.name) for binding in wasm(config.commit().global_bindings)]
    assert found == [("global_rule/g1", "a"), ("global_rule/g2", "b")]
    assert config.compiler.problems == {"/apisix/global_rules/g2": "plugin [a] runs as global rule g1 says; here it is ignored"}
    config.delete("global_rules", "g1")
    assert len(config.commit().global_bindings) == 2
    assert config.compiler.problems == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Timeouts()),
        ({"upstream": {**UPSTREAM, "timeout": {"connect": 1, "send": 2, "read": 3}}}, Timeouts(1, 2, 3)),
        ({"timeout": {"connect": 4, "send": 5, "read": 0.5}}, Timeouts(4, 5, 0.5)),
        (
            {
                "timeout": {"connect": 4, "send": 5, "read": 6},
                "upstream": {**UPSTREAM, "timeout": {"connect": 1, "send": 2, "read": 3}},
            },
            Timeouts(4, 5, 6),
        ),
    ],
)
def test_timeouts(config: Config, fields: dict[str, object], expected: Timeouts) -> None:
    config.put("routes", "1", {"uri": "/", "upstream": UPSTREAM, **fields})
    found = config.route("1").timeouts
    assert (found.connect, found.send, found.read) == (expected.connect, expected.send, expected.read)


@pytest.mark.parametrize(
    ("service", "route", "expected"),
    [
        ({}, {}, False),
        ({}, {"enable_websocket": True}, True),
        ({"enable_websocket": True}, {}, True),
        ({"enable_websocket": True}, {"enable_websocket": False}, False),
    ],
)
def test_websocket(config: Config, service: dict[str, object], route: dict[str, object], expected: bool) -> None:
    config.put("services", "w", {"upstream_id": "u", **service})
    config.put("routes", "r", {"uri": "/", "service_id": "w", **route})
    assert config.route("r").enable_websocket is expected


def test_everything_an_upstream_says(config: Config) -> None:
    config.put(
        "upstreams",
        "u",
        {
            "nodes": [
                {"host": "10.0.0.1", "port": 8080, "weight": 1},
                {"host": "[::1]", "weight": 1},
                {"host": "name.test", "port": 80, "weight": 1},
                {"host": "[fe80::1]", "port": 81, "weight": 1},
            ],
            "pass_host": "rewrite",
            "upstream_host": "other.test:8080",
            "keepalive_pool": {"size": 7, "idle_timeout": 1.5, "requests": 9},
        },
    )
    config.put("routes", "1", {"uri": "/", "upstream_id": "u", "name": "the name"})
    route = config.route("1")
    assert route.name == "the name"
    assert route.upstream is not None
    assert [route.upstream.picker.pick() for _ in range(4)] == [
        Node("10.0.0.1", 8080, 1, b"10.0.0.1:8080"),
        Node("::1", 80, 1, b"[::1]"),
        Node("name.test", 80, 1, b"name.test"),
        Node("fe80::1", 81, 1, b"[fe80::1]:81"),
    ]
    assert (route.upstream.name, route.upstream.pass_host) == ("upstream/u", "rewrite")
    assert route.upstream.upstream_host == b"other.test:8080"
    assert route.upstream.keepalive_pool == KeepalivePool(7, 1.5, 9)


def test_everything_a_plugin_says(config: Config) -> None:
    limits: dict[str, int] = {
        "callback_cpu_ms": 1,
        "start_cpu_ms": 2,
        "memory_bytes": 2**24,
        "body_buffer_bytes": 4,
        "stream_cpu_ms": 5,
    }
    limits |= {"pending_callouts": 6, "log_lines_per_second": 7, "shared_data_bytes": 8}
    config.put(
        "wasm_plugins",
        "x",
        plugin(
            priority=-5,
            http_request_phase="rewrite",
            dialect="apisix",
            failure_policy="fail_open",
            limits=limits,
            capabilities=["proxy_log", "fd_write"],
            vm_configuration={"z": 1, "a": 2},
            environment={"HOME": "/"},
        ),
    )
    found = config.commit().plugins["x"]
    assert (found.name, found.priority, found.sha256, found.phase) == ("x", -5, SHA, "rewrite")
    assert (found.dialect, found.failure_policy, found.limits) == ("apisix", "fail_open", Limits(**limits))
    assert (found.vm_configuration, dict(found.environment)) == (b'{"z":1,"a":2}', {"HOME": "/"})
    assert found.capabilities == frozenset({"proxy_log", "fd_write"})


def match(snapshot: Snapshot, path: str, host: str = "any.test", method: str = "GET") -> str | None:
    route = snapshot.router.match(method.encode(), host.encode(), path.encode())
    return route.id if route else None


def test_matching(config: Config) -> None:
    config.put("routes", "1", {"uris": ["/a", "/a/*"], "methods": ["GET"], "upstream_id": "u"})
    config.put("routes", "2", {"uri": "/a/*", "host": "X.test", "upstream_id": "u"})
    config.put("routes", "3", {"uri": "/s", "service_id": "s"})
    config.put("routes", "4", {"uri": "/s", "service_id": "s", "hosts": ["own.test"]})
    config.put("routes", "5", {"uri": "/off", "status": 0, "upstream_id": "u"})
    config.put("routes", "6", {"uri": "/a", "priority": 1, "methods": ["PUT"], "upstream_id": "u"})
    snapshot = config.commit()
    assert match(snapshot, "/a") == "1"
    assert match(snapshot, "/a", method="PUT") == "6"
    assert match(snapshot, "/a", method="POST") is None
    assert match(snapshot, "/a/x", "x.test") == "2"
    assert [match(snapshot, "/s", host) for host in ("s.test", "own.test", "any.test")] == ["3", "4", None]
    assert match(snapshot, "/off") is None
    assert "5" not in snapshot.routes


def test_a_route_follows_the_hosts_of_its_service(config: Config) -> None:
    config.put("routes", "3", {"uri": "/s", "service_id": "s"})
    assert match(config.commit(), "/s", "s.test") == "3"
    config.put("services", "s", {"hosts": ["t.test"], "upstream_id": "u"})
    assert [match(config.commit(), "/s", host) for host in ("s.test", "t.test")] == [None, "3"]
    config.delete("services", "s")
    snapshot = config.commit()
    assert match(snapshot, "/s") == "3"
    assert snapshot.routes["3"].problem == "service_missing"


def test_what_appears_later_mends_a_route(config: Config) -> None:
    config.put("routes", "1", {"uri": "/", "service_id": "later", "plugin_config_id": "later"})
    problems = [config.route("1").problem]
    config.put("plugin_configs", "later", {"plugins": {"late": conf()}})
    problems.append(config.route("1").problem)
    config.put("services", "later", {"upstream_id": "late"})
    problems.append(config.route("1").problem)
    config.put("wasm_plugins", "late", plugin())
    problems.append(config.route("1").problem)
    config.put("upstreams", "late", UPSTREAM)
    problems.append(config.route("1").problem)
    assert problems == ["plugin_config_missing", "service_missing", "plugin_missing", "upstream_not_found", None]
    assert config.compiler.problems == {}
