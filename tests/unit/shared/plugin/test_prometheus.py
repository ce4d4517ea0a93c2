"""prometheus: what a route's requests add to the gateway's metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from data_plane.observe.families import FAMILIES, TURNED_AWAY
from data_plane.plugins.metrics import HostMetrics
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.metrics import STATS_PER_WORKER
from tests.support.native import Native, refusal

Series = dict[tuple[str, tuple[tuple[str, str], ...]], list[int]]


def counted(conf: dict[str, Any] | None = None, requests: int = 1, **options: Any) -> Series:  # noqa: ANN401
    native = Native({"prometheus": conf or {}})
    for _ in range(requests):
        assert native.request("/p", method="POST", body=b"hello") is not None
        native.response(b"hi", **options)
    return native.host.metrics.series


WHERE = (("route", "1"), ("service", ""), ("consumer", ""), ("node", "a"))


def test_a_request_counts_by_status_size_and_time() -> None:
    series = counted(requests=2)
    assert series.pop(("apisix_http_status", (("code", "200"), *WHERE, ("response_source", "upstream")))) == [1, 1]
    assert series.pop(("apisix_bandwidth", (("type", "ingress"), *WHERE))) == [5, 5]
    assert series.pop(("apisix_bandwidth", (("type", "egress"), *WHERE))) == [2, 2]
    assert {dict(labels)["type"] for _, labels in series} == {"request", "upstream", "apisix"}
    assert {family for family, _ in series} == {"apisix_http_latency"}
    assert all(len(values) == 2 for values in series.values())


def test_every_family_is_described() -> None:
    assert {family for family, _ in counted()} <= FAMILIES.keys()


def test_statuses_count_apart() -> None:
    native = Native({"prometheus": {}})
    for status in (200, 404, 404):
        native.request("/p")
        native.response(b"", status=status)
    codes = {
        dict(labels)["code"]: len(values)
        for (family, labels), values in native.host.metrics.series.items()
        if family == "apisix_http_status"
    }
    assert codes == {"200": 1, "404": 2}


def test_a_route_may_be_called_by_its_name() -> None:
    assert any(("route", "one") in labels for _, labels in counted({"prefer_name": True}))


def test_a_wrong_type_is_refused() -> None:
    assert "prefer_name" in refusal("prometheus", {"prefer_name": 1})


def test_there_is_an_end_to_label_sets(state: HostState) -> None:
    metrics = HostMetrics(state)
    for number in range(STATS_PER_WORKER + 5):
        metrics.counter("apisix_bandwidth", {"route": str(number)}).add(1)
    stat = {stat.name: stat for stat in state.gateway.changed}[TURNED_AWAY.encode()]
    assert stat.numbers == [6]


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostState]:
    state = HostState(tmp_path_factory.mktemp("state") / "here")
    yield state
    state.close()
