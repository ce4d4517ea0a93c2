"""The gateway's own metrics: each family with its type and meaning, and where its number comes from.

The law: one row for each family. A name is APISIX's where APISIX has such a number, else it begins with `waspgate_`; counters
end in `_total`. A stat is stored under its whole sample name, labels included, as an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from data_plane.observe.status import PluginStatus

CounterOfPlugin = Literal["starts", "failures", "streams_cut", "log_lines_dropped", "cpu_seconds"]
GaugeOfPlugin = Literal["memory_bytes", "contexts", "streams", "pending_callouts"]

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family:
    """`scale`: what the stored integer is divided by."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    scale: int = 1


HTTP_STATUS: Final = "waspgate_http_statuses_total"
TURNED_AWAY: Final = "waspgate_label_sets_turned_away_total"

FAMILIES: Final = {
    "apisix_bandwidth": Family("counter", "Bytes of bodies from clients (ingress) and to them, of routes with prometheus."),
    "apisix_etcd_reachable": Family("gauge", "1 while every worker of the host reaches the configuration store."),
    "apisix_http_latency": Family("histogram", "Milliseconds of requests to routes with prometheus: in all, upstream, here."),
    "apisix_http_requests_total": Family("counter", "Requests that clients sent."),
    "apisix_http_status": Family("counter", "Responses of routes with prometheus, by their status."),
    "apisix_nginx_http_current_connections": Family("gauge", "Connections of clients, by state."),
    "apisix_node_info": Family("gauge", "Which gateway this is; always 1."),
    "apisix_shared_dict_capacity_bytes": Family("gauge", "What the state that plugins share may take."),
    "apisix_shared_dict_free_space_bytes": Family("gauge", "What of it is free."),
    "apisix_upstream_status": Family("gauge", "1 while a node of an upstream with health checks takes traffic, else 0."),
    "waspgate_client_aborts_total": Family("counter", "Requests whose client went away before the response ended."),
    "waspgate_config_problems": Family("gauge", "Objects of the configuration that a worker cannot serve as they are now."),
    "waspgate_config_revision": Family("gauge", "The store's revision that a worker serves."),
    "waspgate_connections_total": Family("counter", "Connections that clients made."),
    "waspgate_http_responses_total": Family("counter", "Responses to clients, by the class of their status."),
    HTTP_STATUS: Family("counter", "Responses to clients, by their status."),
    TURNED_AWAY: Family("counter", "Label sets of the plugin prometheus that there was no room for."),
    "waspgate_stream_aborts_total": Family("counter", "TCP sessions ended by a failed plugin or no upstream."),
    "waspgate_stream_bytes_total": Family("counter", "Bytes of TCP sessions that ended, from clients (ingress) and to them."),
    "waspgate_stream_refusals_total": Family("counter", "TCP connections without a route or TLS, or too many."),
    "waspgate_stream_resets_total": Family("counter", "TCP sessions that one side reset."),
    "waspgate_stream_sessions_total": Family("counter", "TCP sessions."),
    "waspgate_stream_timeouts_total": Family("counter", "TCP sessions that were idle or unread for too long."),
    "waspgate_stream_upstream_errors_total": Family("counter", "Connections to upstreams of TCP sessions that failed."),
    "waspgate_stream_upstream_retries_total": Family("counter", "TCP sessions that tried another server."),
    "waspgate_upstream_errors_total": Family("counter", "Requests that no upstream answered in time and in order."),
    "waspgate_upstream_retries_total": Family("counter", "Requests that were sent to an upstream once more."),
    "waspgate_wasm_callback_cpu_seconds_total": Family(
        "counter", "CPU time of a plugin's callbacks; estimated from the first 64 of each second.", 1_000_000
    ),
    "waspgate_wasm_contexts": Family("gauge", "Plugin contexts: places where a plugin runs."),
    "waspgate_wasm_log_lines_dropped_total": Family("counter", "Log lines of a plugin beyond its limit."),
    "waspgate_wasm_memory_bytes": Family("gauge", "Linear memory of a plugin's VMs, with what the host keeps for them."),
    "waspgate_wasm_pending_callouts": Family("gauge", "HTTP and gRPC calls of a plugin that are under way."),
    "waspgate_wasm_plugin_workers": Family("gauge", "Workers in which a plugin is in this state."),
    "waspgate_wasm_streams": Family("gauge", "Requests and connections that are in a plugin."),
    "waspgate_wasm_streams_cut_total": Family("counter", "Requests that took more of a plugin's CPU time than they may."),
    "waspgate_wasm_vm_failures_total": Family("counter", "VMs of a plugin that failed: traps, limits of CPU time."),
    "waspgate_wasm_vm_starts_total": Family("counter", "VMs of a plugin that were started."),
    "waspgate_workers": Family("gauge", "Workers of the host that live."),
}

# Counters.statistics() -> sample.
OF_A_WORKER: Final = {
    "connections": "waspgate_connections_total",
    "requests": "apisix_http_requests_total",
    "client_aborts": "waspgate_client_aborts_total",
    "upstream_errors": "waspgate_upstream_errors_total",
    "upstream_retries": "waspgate_upstream_retries_total",
    **{f"responses_{digit}xx": f'waspgate_http_responses_total{{class="{digit}xx"}}' for digit in range(1, 6)},
}

# StreamCounters.statistics() -> sample.
OF_STREAMS: Final = {
    "stream_sessions": "waspgate_stream_sessions_total",
    "stream_refused": "waspgate_stream_refusals_total",
    "stream_aborted": "waspgate_stream_aborts_total",
    "stream_resets": "waspgate_stream_resets_total",
    "stream_timeouts": "waspgate_stream_timeouts_total",
    "stream_upstream_errors": "waspgate_stream_upstream_errors_total",
    "stream_upstream_retries": "waspgate_stream_upstream_retries_total",
    "stream_bytes_received": 'waspgate_stream_bytes_total{type="ingress"}',
    "stream_bytes_sent": 'waspgate_stream_bytes_total{type="egress"}',
}

COUNTERS_OF_A_PLUGIN: Final[dict[str, CounterOfPlugin]] = {
    "waspgate_wasm_vm_starts_total": "starts",
    "waspgate_wasm_vm_failures_total": "failures",
    "waspgate_wasm_streams_cut_total": "streams_cut",
    "waspgate_wasm_log_lines_dropped_total": "log_lines_dropped",
    "waspgate_wasm_callback_cpu_seconds_total": "cpu_seconds",
}
GAUGES_OF_A_PLUGIN: Final[dict[str, GaugeOfPlugin]] = {
    "waspgate_wasm_memory_bytes": "memory_bytes",
    "waspgate_wasm_contexts": "contexts",
    "waspgate_wasm_streams": "streams",
    "waspgate_wasm_pending_callouts": "pending_callouts",
}


def sample(family: str, **labels: str) -> str:
    """`family{name="value",...}`, as it stands on the page."""
    inside = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{family}{{{inside}}}" if inside else family


def counters_of(plugin: PluginStatus) -> Iterator[tuple[str, int]]:
    """Samples with their stored integers."""
    for family, name in COUNTERS_OF_A_PLUGIN.items():
        yield sample(family, plugin=plugin.name), round(getattr(plugin, name) * FAMILIES[family].scale)
