"""What a run prints, and what it writes to a file for other programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.proxies import PROXIES
from tests.bench.result import PLUGIN_PAIRS, Result, percentile, plugin_cost_us, ratio, typical, verdicts
from tests.bench.tools import versions
from tests.bench.traffic import BODY, ROUTES
from tests.bench.works import CONNECTIONS

MIB = 1024 * 1024
HEADINGS = ("proxy", "requests/s", "p99 ms", "CPU us/request", "of Envoy's")
WIDTHS = (24, 12, 9, 16, 12)


def text(result: Result) -> str:
    return "\n".join([*_table(result), *_others(result), *verdicts(result)]) + "\n"


def setting() -> dict[str, str | int | float]:
    """Read before anything is started: a machine that is busy by then gives ratios at best."""
    return {
        "cpus": os.cpu_count() or 1,
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **versions(),
        "routes": ROUTES,
        "connections": CONNECTIONS,
        "body_bytes": len(BODY),
    }


def write_json(result: Result, file: Path) -> None:
    file.write_text(json.dumps(document(result), indent=2) + "\n")


def document(result: Result) -> dict[str, Any]:
    """The names are stable: a later run is compared by them."""
    return {
        "setting": dict(result.setting),
        "proxies": {proxy.name: _proxy(result, proxy.name, proxy.peer) for proxy in PROXIES if proxy.name in result.rounds},
        "plugin_cost_us": {name: plugin_cost_us(result, *pair) for name, *pair in PLUGIN_PAIRS},
        "bytes_per_thousand_plugin_contexts": result.memory_bytes,
        "put_to_effect": asdict(result.effect) if result.effect else None,
        "cold_start_seconds": list(result.cold_start_seconds),
        "verdicts": verdicts(result),
    }


def _proxy(result: Result, name: str, peer: str) -> dict[str, Any]:
    rounds = result.rounds[name]
    return {"median": asdict(typical(rounds)), "of_envoy": ratio(result, name, peer), "rounds": [asdict(one) for one in rounds]}


def _table(result: Result) -> Iterator[str]:
    if not result.rounds:
        return
    yield ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.setting.items())
    yield ""
    yield _line(HEADINGS)
    for proxy in PROXIES:
        if proxy.name in result.rounds:
            figures = typical(result.rounds[proxy.name])
            of_envoy = ratio(result, proxy.name, proxy.peer)
            yield _line(
                (
                    proxy.label,
                    f"{figures.requests_per_second:.0f}",
                    f"{figures.p99_ms:.1f}",
                    f"{figures.cpu_us_per_request:.1f}",
                    "-" if of_envoy is None else f"{of_envoy:.2f}",
                )
            )
    yield ""


def _line(cells: Sequence[str]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return "".join([first.strip().ljust(WIDTHS[0]), *others])


def _others(result: Result) -> Iterator[str]:
    for label, without, with_plugin in PLUGIN_PAIRS:
        cost = plugin_cost_us(result, without, with_plugin)
        if cost is not None:
            yield f"added cost of the plugin in {label}: {cost:.1f} us/request"
    if result.memory_bytes is not None:
        yield f"memory per 1,000 PluginContexts: {result.memory_bytes / MIB:.2f} MiB"
    if result.effect is not None:
        served, answered = result.effect.served_ms, result.effect.answered_ms
        yield (
            f"from PUT to effect: median {median(served):.1f} ms, p99 {percentile(served, 99):.1f} ms, "
            f"{len(served)} changes (the PUT's own answer: median {median(answered):.1f} ms)"
        )
    if result.cold_start_seconds:
        yield f"cold start with 10,000 routes: {median(result.cold_start_seconds):.2f} s"
