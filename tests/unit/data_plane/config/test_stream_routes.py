"""Stream routes in a snapshot: inheritance, problems, and what stays the same object."""

from __future__ import annotations

import pytest

from data_plane.config.snapshot import STREAM_IDLE_SECONDS, Snapshot, StreamRoute
from data_plane.upstream_tls.client_tls import ClientTls
from tests.support.config import Config, conf, plugin


@pytest.fixture
def config() -> Config:
    config = Config()
    config.put("wasm_plugins", "a", plugin(priority=30))
    config.put("wasm_plugins", "b", plugin(priority=20))
    config.put("upstreams", "u", {"nodes": {"u.test:1": 1}, "scheme": "tcp"})
    config.put("upstreams", "v", {"nodes": {"v.test:1": 1}, "scheme": "tls", "tls": {"verify": True}})
    config.put("services", "s", {"upstream_id": "u", "plugins": {"a": conf("service")}})
    return config


def route(snapshot: Snapshot, port: int = 9100, sni: bytes = b"") -> StreamRoute:
    found = snapshot.stream_router.match("192.0.2.1", "10.0.0.1", port, sni)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "host", "problem"),
    [
        ({"upstream": {"nodes": {"r.test:1": 1}}}, "r.test", None),
        ({"upstream_id": "v"}, "v.test", None),
        ({"service_id": "s"}, "u.test", None),
        ({"service_id": "s", "upstream_id": "v"}, "v.test", None),
        ({"upstream_id": "nope"}, None, "upstream_not_found"),
        ({"upstream": {"nodes": {}}}, None, "no_nodes"),
        ({"service_id": "nope", "upstream_id": "u"}, None, "service_missing"),
        ({"upstream_id": "u", "plugins": {"nope": conf()}}, None, "plugin_missing"),
    ],
)
def test_upstream_and_problem(config: Config, fields: dict[str, object], host: str | None, problem: str | None) -> None:
    config.put("stream_routes", "1", fields)
    found = route(config.commit())
    node = found.upstream.picker.pick() if found.upstream else None
    assert (node.host if node else None, found.problem) == (host, problem)


def test_plugins_are_those_of_the_route_and_its_service(config: Config) -> None:
    config.put("stream_routes", "1", {"service_id": "s", "plugins": {"b": conf("own")}})
    config.put("global_rules", "1", {"plugins": {"a": conf("everywhere")}})
    bindings = route(config.commit()).bindings
    assert [(binding.owner, binding.plugin.name, binding.configuration) for binding in bindings] == [
        ("stream_route/1", "a", b"service"),
        ("stream_route/1", "b", b"own"),
    ]


def test_what_an_upstream_says_about_streams(config: Config) -> None:
    timeout = {"connect": 1, "send": 2, "read": 3}
    config.put("stream_routes", "1", {"upstream": {"nodes": {"r.test:1": 1}, "timeout": timeout}, "server_port": 1})
    config.put("stream_routes", "2", {"upstream_id": "v", "server_port": 2})
    snapshot = config.commit()
    plain, tls = route(snapshot, 1).upstream, route(snapshot, 2).upstream
    assert plain is not None
    assert tls is not None
    assert (plain.scheme, plain.stream_idle, plain.tls) == ("http", 3, None)
    assert (tls.scheme, tls.stream_idle, tls.tls) == ("tls", STREAM_IDLE_SECONDS, ClientTls(verify=True))


def test_a_route_of_requests_cannot_use_an_upstream_of_streams(config: Config) -> None:
    config.put("routes", "1", {"uri": "/a", "upstream_id": "u"})
    assert config.commit().routes["1"].problem == "upstream_not_http"


def test_what_did_not_change_is_the_same_object(config: Config) -> None:
    config.put("stream_routes", "1", {"service_id": "s", "server_port": 1})
    config.put("stream_routes", "2", {"upstream_id": "v", "server_port": 2})
    before = config.commit()
    config.put("stream_routes", "2", {"upstream_id": "u", "server_port": 2})
    after = config.commit()
    assert route(after, 1) is route(before, 1)
    assert route(after, 2) is not route(before, 2)
    assert before.stream_routes["2"] is route(before, 2)
    config.put("routes", "1", {"uri": "/a", "service_id": "s"})
    assert config.commit().stream_router is after.stream_router


def test_a_change_reaches_the_routes_that_name_what_changed(config: Config) -> None:
    config.put("stream_routes", "1", {"service_id": "s"})
    before = route(config.commit())
    config.put("services", "s", {"upstream_id": "v", "plugins": {"a": conf("service")}})
    after = route(config.commit())
    assert after.upstream is not before.upstream
    assert after.bindings[0] is before.bindings[0]
    config.delete("stream_routes", "1")
    snapshot = config.commit()
    assert not snapshot.stream_routes
    assert snapshot.stream_router.match("192.0.2.1", "10.0.0.1", 1, b"") is None


def test_the_last_good_version_stays(config: Config) -> None:
    config.put("stream_routes", "1", {"upstream_id": "u", "server_port": 1})
    good = route(config.commit(), 1)
    config.put("stream_routes", "1", b"{")
    assert route(config.commit(), 1) is good
    config.put("stream_routes", "1", {"upstream_id": "u", "server_port": 1, "plugins": {"gone": conf()}})
    assert route(config.commit(), 1) is good
    assert "/apisix/stream_routes/1" in config.compiler.problems
