"""Envoy as it comes, on one thread, with one route: without a plugin, or with the module that Waspgate runs, in V8.

The law: nothing is tuned, for or against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.encryption import PAIR
from tests.bench.server import HOST, Server, free_port, running
from tests.bench.tools import path_of
from tests.bench.traffic import path
from tests.bench.works import Work

API = "type.googleapis.com/envoy.extensions.filters"
TLS_API = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
MANAGER = f"{API}.network.http_connection_manager.v3.HttpConnectionManager"


@contextmanager
def proxy(folder: Path, upstream_port: int, *, work: Work) -> Iterator[Server]:
    name = f"envoy{work.suffix}"
    port = free_port()
    module, file = folder / f"{name}.wasm", folder / f"{name}.json"
    if work.plugins:
        module.write_bytes(work.module())
    file.write_text(json.dumps(configuration(port, upstream_port, module, work)))
    command = [path_of("envoy"), "--config-path", str(file), "--concurrency", "1"]
    # Hot restart takes an id in shared memory that other Envoys on the machine may have.
    command += ["--disable-hot-restart", "--log-level", "warn"]
    with running(name, port, command, folder, tls=work.tls) as server:
        server.await_answer(path(0))
        yield server


def configuration(port: int, upstream_port: int, module: Path, work: Work) -> dict[str, Any]:
    router = {"name": "router", "typed_config": {"@type": f"{API}.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*(_wasm(module, number) for number in range(work.plugins)), router],
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if work.tls:
        chain["transport_socket"] = _tls()
    listener = {"address": _address(port), "filter_chains": [chain]}
    endpoint = {"endpoint": {"address": _address(upstream_port)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _tls() -> dict[str, Any]:
    pair = {"certificate_chain": {"inline_string": PAIR.cert}, "private_key": {"inline_string": PAIR.key}}
    context = {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]}
    return {"name": "tls", "typed_config": {"@type": f"{TLS_API}.DownstreamTlsContext", "common_tls_context": context}}


def _wasm(module: Path, number: int) -> dict[str, Any]:
    vm = {"vm_id": "bench", "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(module)}}}
    config = {"name": f"bench-{number}", "root_id": f"bench-{number}", "vm_config": vm}
    return {"name": "wasm", "typed_config": {"@type": f"{API}.http.wasm.v3.Wasm", "config": config}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}
