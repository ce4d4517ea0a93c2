"""The control API's answers: what the workers of this host really do, as they said it within the last second.

The law: it only reads. An answer is JSON; what is not there is a 404 that names it, in APISIX's form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from data_plane.observe.checkers import HEALTHCHECK_PATH
from data_plane.observe.families import COUNTERS_OF_A_PLUGIN, GAUGES_OF_A_PLUGIN
from data_plane.observe.page import Report

Answer = tuple[int, Any]

# What a plugin's rows of all workers are added up to.
_SUMS = (*COUNTERS_OF_A_PLUGIN.values(), *GAUGES_OF_A_PLUGIN.values())


def answer(path: str, reports: Sequence[Report]) -> Answer:
    for prefix, respond in _PATHS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return respond(path[len(prefix) + 1 :], reports)
    known = ", ".join((*(prefix for prefix, _ in _PATHS), HEALTHCHECK_PATH, "/status"))
    return 404, {"error_msg": f"unknown path {path}, known are {known}"}


def _wasm_plugins(name: str, reports: Sequence[Report]) -> Answer:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        for plugin in report["plugins"]:
            row = {"worker": report["worker"], "pid": report["pid"], **plugin}
            by_name.setdefault(row.pop("name"), []).append(row)
    if not name:
        return 200, [_summed(plugin, by_name[plugin]) for plugin in sorted(by_name)]
    if name not in by_name:
        return 404, {"error_msg": f"plugin[{name}] not found"}
    return 200, _summed(name, by_name[name])


def _summed(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [row["last_error"] for row in rows if row["last_error"] is not None]
    return {
        "name": name,
        "states": {state: sum(row["state"] == state for row in rows) for state in sorted({row["state"] for row in rows})},
        **{key: sum(row[key] for row in rows) for key in _SUMS},
        "last_error": max(errors, key=lambda error: error["at"], default=None),
        "workers": rows,
    }


def _workers(rest: str, reports: Sequence[Report]) -> Answer:
    if rest:
        return 404, {"error_msg": f"worker[{rest}] not found"}
    return 200, [{key: value for key, value in report.items() if key != "plugins"} for report in reports]


def status(path: str, readiness: Callable[[], str | None], staleness: Callable[[], str | None] = lambda: None) -> Answer:
    """`readiness` says why the data plane is not ready, `staleness` why what it serves may be old. The answers are APISIX's,
    but for `stale`."""
    stale = staleness()
    well = {"status": "ok"} if stale is None else {"status": "ok", "stale": stale}
    if path == "/status":
        return 200, well
    if path != "/status/ready":
        return 404, {"error_msg": f"unknown path {path}, known are /status, /status/ready"}
    error = readiness()
    return (200, well) if error is None else (503, {"status": "error", "error": error})


_PATHS: tuple[tuple[str, Callable[[str, Sequence[Report]], Answer]], ...] = (
    ("/v1/plugins/wasm", _wasm_plugins),
    ("/v1/workers", _workers),
)
