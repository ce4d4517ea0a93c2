"""The gateway's own metrics: every count has its family, and Prometheus reads the page whatever things are called."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from data_plane.observe.control_api import answer, status
from data_plane.observe.counters import Counters
from data_plane.observe.families import FAMILIES, OF_A_WORKER, OF_STREAMS, counters_of
from data_plane.observe.observer import Crew
from data_plane.observe.page import page
from data_plane.observe.pulse import Pulses, State
from data_plane.observe.status import PluginError, PluginStatus, WorkerStatus
from data_plane.observe.stream_counters import StreamCounters
from shared.proxy_wasm.state.metric_table import Metric, MetricKind

# Counters without the suffix, as APISIX calls them.
OF_APISIX = ("apisix_bandwidth", "apisix_http_status")

PLUGIN = PluginStatus(
    name="p",
    sha256="ab",
    failure_policy="fail_closed",
    state="running",
    retry_in=None,
    starts=2,
    failures=1,
    streams_cut=0,
    log_lines_dropped=5,
    cpu_seconds=0.25,
    memory_bytes=1000,
    contexts=3,
    streams=4,
    pending_callouts=1,
    last_error=None,
    refusals=(),
    refusals_total=0,
)


def report(worker: int, *plugins: PluginStatus, ready: bool = True, reachable: bool = True) -> dict[str, Any]:
    problems = {"/apisix/routes/1": "is wrong"}
    return asdict(WorkerStatus(worker, 100 + worker, 1.5, ready, reachable, 7, 2, problems, 12, plugins))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert len({(sample.name, tuple(sorted(sample.labels.items()))) for sample in found}) == len(found)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}


def test_every_count_has_a_family_that_is_described() -> None:
    assert OF_A_WORKER.keys() == Counters().statistics().keys()
    assert OF_STREAMS.keys() == StreamCounters().statistics().keys()
    named = {*OF_A_WORKER.values(), *OF_STREAMS.values(), *dict(counters_of(PLUGIN))}
    assert {name.partition("{")[0] for name in named} <= FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"(apisix|waspgate)_[a-z_]+", name)
        # APISIX's name for a counter of responses has no suffix.
        assert name in OF_APISIX or name.endswith("_total") == (family.kind == "counter")


def test_a_page() -> None:
    gateway = [Metric(name, MetricKind.COUNTER, value) for name, value in counters_of(PLUGIN)]
    gateway += [Metric("apisix_http_requests_total", MetricKind.COUNTER, 10)]
    plugins = [Metric("seen.route=r1", MetricKind.GAUGE, -3)]
    waiting = replace(PLUGIN, state="waiting", contexts=0)
    shown = samples(page(gateway, plugins, [report(1, PLUGIN), report(2, waiting, reachable=False)], (300, 1000)))
    assert shown["apisix_http_requests_total", ()] == 10
    assert shown["waspgate_wasm_callback_cpu_seconds_total", (("plugin", "p"),)] == 0.25
    assert shown["waspgate_wasm_memory_bytes", (("plugin", "p"),)] == 2000
    assert shown["waspgate_wasm_contexts", (("plugin", "p"),)] == 3
    assert shown["waspgate_wasm_plugin_workers", (("plugin", "p"), ("state", "running"))] == 1
    assert shown["waspgate_wasm_plugin_workers", (("plugin", "p"), ("state", "waiting"))] == 1
    assert shown["waspgate_config_revision", (("pid", "101"), ("worker", "1"))] == 7
    assert shown["waspgate_config_problems", (("pid", "102"), ("worker", "2"))] == 12
    assert shown["apisix_nginx_http_current_connections", (("state", "active"),)] == 4
    assert shown["apisix_etcd_reachable", ()] == 0
    assert shown["apisix_shared_dict_free_space_bytes", (("name", "wasm"),)] == 700
    assert shown["waspgate_workers", ()] == 2
    assert shown["seen", (("route", "r1"),)] == -3


@given(
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=4, unique=True),
    stats=st.lists(st.tuples(st.text(max_size=12), st.sampled_from(MetricKind)), max_size=4),
)
def test_any_names_give_a_page_that_can_be_read(names: list[str], stats: list[tuple[str, MetricKind]]) -> None:
    named = [replace(PLUGIN, name=name) for name in names]
    gateway = [Metric(name, MetricKind.COUNTER, value) for plugin in named for name, value in counters_of(plugin)]
    buckets = tuple(range(20))
    plugins = [Metric(name, kind, 1, buckets, 1) for name, kind in stats]
    shown = samples(page(gateway, plugins, [report(1, *named)], (0, 1)))
    starts = {labels for name, labels in shown if name == "waspgate_wasm_vm_starts_total"}
    assert starts == {(("plugin", name),) for name in names}


def test_without_a_worker_there_is_a_page() -> None:
    shown = samples(page([], [], [], (0, 1)))
    assert (shown["waspgate_workers", ()], shown["apisix_etcd_reachable", ()]) == (0, 0)


# --- the control API


def test_the_plugins_of_all_workers() -> None:
    old, new = PluginError(1.0, "unreachable", "old"), PluginError(2.0, "interrupt", "new")
    reports = [
        report(1, replace(PLUGIN, last_error=new)),
        report(2, replace(PLUGIN, state="waiting", retry_in=0.5, last_error=old), replace(PLUGIN, name="another")),
    ]
    code, plugins = answer("/v1/plugins/wasm", reports)
    assert (code, [plugin["name"] for plugin in plugins]) == (200, ["another", "p"])
    code, plugin = answer("/v1/plugins/wasm/p", reports)
    assert (plugin["states"], plugin["starts"], plugin["cpu_seconds"]) == ({"running": 1, "waiting": 1}, 4, 0.5)
    assert plugin["last_error"] == {"at": 2.0, "code": "interrupt", "reason": "new"}
    assert [(row["worker"], row["pid"], row["retry_in"]) for row in plugin["workers"]] == [(1, 101, None), (2, 102, 0.5)]
    assert answer("/v1/plugins/wasm/none", reports) == (404, {"error_msg": "plugin[none] not found"})


def test_the_workers() -> None:
    reports = [report(1, PLUGIN), report(2, ready=False)]
    code, workers = answer("/v1/workers", reports)
    assert (code, [worker["worker"] for worker in workers]) == (200, [1, 2])
    assert workers[0]["problems"] == {"/apisix/routes/1": "is wrong"}
    assert "plugins" not in workers[0]


def test_whether_the_data_plane_runs_and_is_ready() -> None:
    pulses = Pulses()
    crew = Crew(pulses, [(1, pulses.take()), (2, pulses.take())])

    def not_ready(why: str) -> tuple[int, object]:
        return 503, {"status": "error", "error": why}

    def asked(path: str) -> tuple[int, object]:
        return status(path, crew.readiness)

    assert asked("/status") == (200, {"status": "ok"})
    assert asked("/status/ready") == not_ready("worker id: 1 has not received configuration")
    crew.workers[0][1].state = State.READY
    crew.workers[1][1].state = State.SERVING
    assert asked("/status/ready") == not_ready("worker id: 2 has not received configuration")
    crew.workers[1][1].state = State.READY
    assert asked("/status/ready") == (200, {"status": "ok"})
    crew.workers[0][1].begin()
    assert asked("/status/ready") == not_ready("worker id: 1 has not received configuration")
    crew.workers[0][1].state = State.READY
    pulses.stop()
    assert asked("/status/ready") == not_ready("the data plane is stopping")
    assert asked("/status")[0] == 200
    assert asked("/status/other")[0] == 404


def test_an_unknown_path_names_those_that_there_are() -> None:
    code, said = answer("/v1/plugins/wasmx", [])
    assert code == 404
    assert "unknown path /v1/plugins/wasmx, known are /v1/plugins/wasm" in said["error_msg"]


def test_a_histogram_has_its_buckets_in_order_its_sum_and_its_count() -> None:
    buckets = (0, 1, *([3] * 17), 4)
    latency = Metric('apisix_http_latency{type="request",route="1"}', MetricKind.HISTOGRAM, buckets=buckets, sum=4000007)
    text = page([latency], [], [], (0, 1))
    found = samples(text)
    labels = (("route", "1"), ("type", "request"))
    assert found["apisix_http_latency_bucket", (("le", "1"), *labels)] == 1
    assert found["apisix_http_latency_bucket", (("le", "+Inf"), *labels)] == found["apisix_http_latency_count", labels] == 4
    assert found["apisix_http_latency_sum", labels] == 4000007
    assert "# TYPE apisix_http_latency histogram" in text
    assert text.index('le="2500"') < text.index('le="10000"') < text.index('le="+Inf"')
