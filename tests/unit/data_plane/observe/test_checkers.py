"""What health checks found, as APISIX's control API and Prometheus page say it."""

from __future__ import annotations

import pytest

from data_plane.health.machine import Health, Target
from data_plane.health.rows import Place, encode, key_of
from data_plane.observe.checkers import answer, checkers, samples
from data_plane.observe.page import page

DOWN = Target(Health.UNHEALTHY, (0, 2, 0, 0))
ROWS = {
    key_of(Place("upstream/1", "10.0.0.1", 80, "a.test")): encode(Target(), "http"),
    key_of(Place("upstream/1", "10.0.0.2", 80, "a.test")): encode(DOWN, "http"),
    key_of(Place("route/r", "::1", 443, "::1")): encode(Target(Health.MOSTLY_HEALTHY, (0, 0, 1, 0)), "tcp"),
    b"nonsense": b"",
}
DOWN_NODE = {
    "ip": "10.0.0.2",
    "port": 80,
    "hostname": "a.test",
    "status": "unhealthy",
    "counter": {"success": 0, "tcp_failure": 2, "http_failure": 0, "timeout_failure": 0},
}


def test_all_of_them() -> None:
    route, upstream = checkers(ROWS)
    assert (route["name"], route["type"], route["nodes"][0]["status"]) == ("/apisix/routes/r", "tcp", "mostly_healthy")
    assert (upstream["name"], upstream["type"]) == ("/apisix/upstreams/1", "http")
    assert [node["status"] for node in upstream["nodes"]] == ["healthy", "unhealthy"]
    assert upstream["nodes"][1] == DOWN_NODE
    assert answer("", ROWS) == (200, [route, upstream])
    assert answer("", {}) == (200, [])


@pytest.mark.parametrize(
    ("rest", "status", "words"),
    [
        ("upstreams/2", 404, "no checker for upstreams[2]"),
        ("routes", 404, "missing src id for src type routes"),
        ("consumers/1", 400, "invalid src type consumers"),
    ],
)
def test_what_is_not_there(rest: str, status: int, words: str) -> None:
    assert answer(rest, ROWS) == (status, {"error_msg": words})


def test_one_of_them() -> None:
    status, checker = answer("upstreams/1", ROWS)
    assert (status, len(checker["nodes"])) == (200, 2)


def test_the_gauge() -> None:
    shown = page([], [], [], (0, 1), samples(ROWS)).splitlines()
    assert 'apisix_upstream_status{name="/apisix/upstreams/1",ip="10.0.0.1",port="80"} 1' in shown
    assert 'apisix_upstream_status{name="/apisix/upstreams/1",ip="10.0.0.2",port="80"} 0' in shown
    assert "# TYPE apisix_upstream_status gauge" in shown
