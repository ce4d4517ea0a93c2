"""The Prometheus page: the gateway's own families, then what plugins have defined, summed over the workers of the host.

The law: the page is valid whatever plugins and routes are called; a counter on it never falls while the host's state lives,
whichever workers crash meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_plane.observe.families import FAMILIES, GAUGES_OF_A_PLUGIN, Family, sample
from shared.proxy_wasm.state.metric_table import BUCKETS, Metric, MetricKind
from shared.proxy_wasm.state.prometheus import render
from shared.version import version_here

Report = Mapping[str, Any]  # a WorkerStatus, as it was read
Samples = dict[str, float]

NOTHING_CHECKED: Samples = {}
_PARTS = ("_bucket", "_sum", "_count")


def page(
    gateway: Iterable[Metric],
    plugins: Iterable[Metric],
    reports: Sequence[Report],
    room: tuple[int, int],
    checked: Mapping[str, float] = NOTHING_CHECKED,
) -> str:
    """`room`: bytes that the shared state takes, and what it may take. `checked`: samples of what health checks found."""
    samples: Samples = {}
    for metric in gateway:
        samples |= histogram(metric) if metric.kind is MetricKind.HISTOGRAM else {metric.name: metric.value}
    samples |= gauges(reports, room)
    samples |= checked
    return "".join(f"{line}\n" for line in _lines(samples)) + render(plugins)


def histogram(metric: Metric) -> Samples:
    """The samples of one label set: so many up to each bound, their sum and their number."""
    family, _, rest = metric.name.partition("{")
    labels = rest.removesuffix("}")
    bounds = (*map(str, BUCKETS), "+Inf")
    before = f"{labels}," if labels else ""
    found: Samples = {
        f'{family}_bucket{{{before}le="{bound}"}}': count for bound, count in zip(bounds, metric.buckets, strict=True)
    }
    inside = f"{{{labels}}}" if labels else ""
    return found | {f"{family}_sum{inside}": metric.sum, f"{family}_count{inside}": metric.count}


def gauges(reports: Sequence[Report], room: tuple[int, int]) -> Samples:
    used, limit = room
    found: Samples = {
        sample("apisix_node_info", hostname=socket.gethostname(), version=version_here()): 1,
        sample("apisix_etcd_reachable"): int(bool(reports) and all(report["store_reachable"] for report in reports)),
        sample("apisix_nginx_http_current_connections", state="active"): sum(report["connections"] for report in reports),
        sample("apisix_shared_dict_capacity_bytes", name="wasm"): limit,
        sample("apisix_shared_dict_free_space_bytes", name="wasm"): max(limit - used, 0),
        sample("waspgate_workers"): len(reports),
    }
    for report in reports:
        # Two data planes on one store have workers of the same number.
        labels = {"worker": str(report["worker"]), "pid": str(report["pid"])}
        found[sample("waspgate_config_revision", **labels)] = report["revision"]
        found[sample("waspgate_config_problems", **labels)] = report["problems_total"]
        for plugin in report["plugins"]:
            _add_plugin(found, plugin)
    return found


def _add_plugin(found: Samples, plugin: Report) -> None:
    name = plugin["name"]
    for family, key in GAUGES_OF_A_PLUGIN.items():
        _add(found, sample(family, plugin=name), plugin[key])
    _add(found, sample("waspgate_wasm_plugin_workers", plugin=name, state=plugin["state"]), 1)


def _add(found: Samples, name: str, value: float) -> None:
    found[name] = found.get(name, 0) + value


def _lines(samples: Samples) -> Iterator[str]:
    by_family: dict[str, list[str]] = {}
    for name in samples:
        by_family.setdefault(name.partition("{")[0], []).append(name)
    for family, described in FAMILIES.items():
        # A histogram's samples keep the order in which they were made: buckets from the lowest on.
        parts = [f"{family}{suffix}" for suffix in _PARTS] if described.kind == "histogram" else [family]
        names = [name for part in parts for name in _ordered(by_family.get(part, ()), described)]
        if names:
            yield f"# HELP {family} {described.help}"
            yield f"# TYPE {family} {described.kind}"
            yield from (f"{name} {_number(samples[name], described.scale)}" for name in names)


def _ordered(names: Iterable[str], family: Family) -> Iterable[str]:
    return names if family.kind == "histogram" else sorted(names)


def _number(value: float, scale: int) -> str:
    return str(value) if scale == 1 else repr(value / scale)
