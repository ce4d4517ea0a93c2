"""What an operator sees of a gateway that runs: metrics summed over the workers, and how each plugin is in each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.command import wait_until
from tests.support.gateway import answering, ok, upstream
from tests.support.guest import build
from tests.support.up import Up, waspgate_up

WORKERS = 2
REQUESTS = 40

SOURCE = r"""
#include "allocator.h"
#include "proxy_wasm.h"
PROXY_EXPORT("proxy_abi_version_0_2_1") void version(void) {}
PROXY_IMPORT("proxy_define_metric") enum proxy_status define(uint32_t type, const char *name, size_t size, uint32_t *id);
PROXY_IMPORT("proxy_increment_metric") enum proxy_status increment(uint32_t id, int64_t delta);
PROXY_IMPORT("proxy_record_metric") enum proxy_status record(uint32_t id, uint64_t value);
static uint32_t counter, gauge, histogram;
#define DEFINE(type, name, id) define(type, name, sizeof name - 1, id)
PROXY_EXPORT("proxy_on_configure") uint32_t on_configure(uint32_t root, uint32_t size) {
    DEFINE(0, "asked_total.plugin=meter.route=r1", &counter);
    DEFINE(1, "workers.plugin=meter", &gauge);
    DEFINE(2, "reporter=.=meter;.;route=.=r1;.;_size", &histogram);
    record(gauge, 1);
    return 1;
}
PROXY_EXPORT("proxy_on_request_headers") uint32_t on_request_headers(uint32_t id, uint32_t n, uint32_t eos) {
    increment(counter, 1);
    record(histogram, 7);
    if (n > 20) __builtin_trap();
    return 0;
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with (
        upstream(answering(ok())) as server,
        waspgate_up(tmp_path_factory.mktemp("up"), server.port, workers=WORKERS) as running,
    ):
        running.upload("meter", build(SOURCE), dry_run=False)
        running.put(
            "routes/r1?dry_run=false", {"uri": "/meter", "plugins": {"meter": {"conf": "x"}}, "upstream": running.upstream}
        )
        wait_until(lambda: running.get("/meter").status_code == 200, "the plugin is served")
        yield running


def families(up: Up) -> dict[str, Metric]:
    """The page as Prometheus's own parser reads it."""
    return {family.name: family for family in text_string_to_metric_families(up.metrics())}


def value(up: Up, name: str, **labels: str) -> float:
    """The sum of the samples with at least these labels."""
    samples = [sample for family in families(up).values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def counters(up: Up) -> dict[object, float]:
    found = [family for family in families(up).values() if family.type == "counter"]
    return {(sample.name, tuple(sample.labels.items())): sample.value for family in found for sample in family.samples}


def ask(up: Up, times: int, **headers: str) -> None:
    for _ in range(times):
        # A connection each: the kernel spreads them over the workers.
        connection = HTTPConnection(up.listen, timeout=30)
        connection.request("GET", "/meter", headers=headers)
        connection.getresponse().read()
        connection.close()


def plugin(up: Up) -> dict[str, object]:
    found: dict[str, object] = up.control("/v1/plugins/wasm/meter")
    return found


def test_the_numbers_of_all_workers_come_out_summed_and_survive_one_that_is_killed(up: Up) -> None:
    before, requests = value(up, "asked_total", plugin="meter", route="r1"), value(up, "apisix_http_requests_total")
    ask(up, REQUESTS)
    wait_until(lambda: value(up, "asked_total", plugin="meter", route="r1") >= before + REQUESTS, "plugins' numbers are there")
    wait_until(lambda: value(up, "apisix_http_requests_total") >= requests + REQUESTS, "the gateway's numbers are there")
    assert value(up, "waspgate_http_responses_total", **{"class": "2xx"}) >= REQUESTS
    assert value(up, "waspgate_http_statuses_total", code="200") >= REQUESTS
    asked = value(up, "asked_total")
    assert value(up, "size_count", reporter="meter", route="r1") == asked
    assert value(up, "size_bucket", le="10") == asked
    assert value(up, "waspgate_workers") == WORKERS
    assert value(up, "waspgate_wasm_callback_cpu_seconds_total", plugin="meter") > 0
    wait_until(lambda: value(up, "workers", plugin="meter") == WORKERS, "both workers have run the plugin")

    counted = counters(up)
    victim = int(up.control("/v1/workers")[0]["pid"])
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in [row["pid"] for row in up.control("/v1/workers")], "the worker is gone")
    wait_until(lambda: len(up.control("/v1/workers")) == WORKERS, "another worker came")
    after = counters(up)
    assert {name: after.get(name, 0) for name in counted if after.get(name, 0) < counted[name]} == {}


def test_the_control_api_shows_how_a_plugin_is(up: Up) -> None:
    ask(up, 20)
    wait_until(lambda: plugin(up)["states"] == {"running": WORKERS}, "both workers run the plugin")
    shown = plugin(up)
    assert shown["contexts"] == WORKERS
    assert shown["streams"] == 0
    assert int(str(shown["memory_bytes"])) > WORKERS << 16
    failures = int(str(shown["failures"]))
    ask(up, 1, **{f"x-{number}": "y" for number in range(20)})
    wait_until(lambda: int(str(plugin(up)["failures"])) == failures + 1, "the failure is told")
    error = plugin(up)["last_error"]
    assert isinstance(error, dict)
    assert error["code"] == "unreachable"
    assert value(up, "waspgate_wasm_vm_failures_total", plugin="meter") >= 1
    ask(up, 20)
    wait_until(lambda: plugin(up)["states"] == {"running": WORKERS}, "it was started again")


def test_a_plugin_that_nothing_has_needed_yet_is_idle_and_one_that_refuses_says_where(up: Up) -> None:
    up.upload("refuser", build(SOURCE.replace("return 1;", "return 0;")), dry_run=False)

    def states() -> object:
        return next((row["states"] for row in up.control("/v1/plugins/wasm") if row["name"] == "refuser"), None)

    wait_until(lambda: states() == {"idle": WORKERS}, "the plugin is known")
    document = {"uri": "/refuser", "plugins": {"refuser": {"conf": "x"}}, "upstream": up.upstream}
    up.put("routes/r2?dry_run=false", document)
    wait_until(lambda: up.get("/refuser").status_code == 503, "the plugin refuses")
    wait_until(lambda: "refused" in str(states()), "it is told")
    (row,) = [row for row in up.control("/v1/plugins/wasm/refuser")["workers"] if row["state"] == "refused"]
    assert row["refusals"] == [{"on": "route/r2", "reason": "the plugin answered false to proxy_on_configure"}]


def test_paths_that_are_not_there(up: Up, tmp_path: Path) -> None:
    for page, path, status in (
        ("control", "/v1/plugins/wasm/unknown", 404),
        ("control", "/v1/unknown", 404),
        ("control", "/status", 200),
        ("control", "/status/ready", 200),
        ("prometheus", "/", 404),
    ):
        connection = HTTPConnection(up.pages[page].removeprefix("http://"), timeout=10)
        connection.request("GET", path)
        assert (path, connection.getresponse().status) == (path, status)
        connection.close()


def test_the_observer_is_replaced_when_it_is_killed_and_traffic_goes_on(up: Up) -> None:
    workers = [int(row["pid"]) for row in up.control("/v1/workers")]
    status = Path(f"/proc/{workers[0]}/status").read_text()
    supervisor = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
    children = [int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
    (observer,) = set(children) - set(workers)
    os.kill(observer, signal.SIGKILL)
    assert up.get("/meter").status_code == 200
    assert value(up, "waspgate_workers") == WORKERS
    assert up.control("/status") == {"status": "ok"}
