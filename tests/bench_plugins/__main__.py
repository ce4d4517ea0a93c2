"""`make bench-plugins`: what each native plugin adds to a request, in CPU microseconds of one worker.

The law: routes are measured in turns, so what disturbs the machine disturbs all of them; a plugin's figure is the median over
the rounds of its difference to the route without plugins in the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

from data_plane.config.snapshot import Route
from shared.plugin.plugin import Plugin
from shared.plugin.program import Bound, compile_program
from shared.plugin.request import Request
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.limits import LimitRows
from shared.schema.common import Spec
from tests.bench_plugins.cases import CONSUMERS, KEY_FIELD, UNMEASURED, cases
from tests.bench_plugins.driver import Driver, Serving, request_head, route_with

PLAIN, IDLE = "(no plugins)", "(idle)"
# Microseconds.
REQUIRED = {IDLE: 1.5, "key-auth": 5.0, "limit-count": 10.0}
GC_THRESHOLD = 50_000


class Idle(Plugin[Spec]):
    """Has nothing to do."""

    name = "idle"
    priority = 1
    Config = Spec

    def access(self, request: Request) -> None:
        return None


def drivers(counters: LimitRows, loop: asyncio.AbstractEventLoop) -> list[Driver]:
    plain = route_with({}, counters, {})
    idle = Bound.of(Idle(Spec()))
    binding = route_with({"request-id": {}}, counters, {}).bindings
    found = [
        Driver(PLAIN, Serving(plain, loop), request_head(KEY_FIELD)),
        Driver(IDLE, Serving(replace(plain, bindings=binding, program=compile_program([idle])), loop), request_head(KEY_FIELD)),
    ]
    for name, (plugins, fields) in cases().items():
        route: Route = route_with(plugins, counters, CONSUMERS)
        found.append(Driver(name, Serving(route, loop), request_head(*fields)))
    return found


def measure(measured: list[Driver], rounds: int, requests: int) -> dict[str, float]:
    """Microseconds a request: of the plain route all, of the others what they add."""
    costs: dict[str, list[float]] = {driver.name: [] for driver in measured}
    for driver in measured:
        driver.check()
        driver.seconds(requests // 10)
    for _ in range(rounds):
        for driver in measured:
            costs[driver.name].append(driver.seconds(requests) / requests * 1e6)
    plain = costs.pop(PLAIN)
    added = {name: median(cost - base for cost, base in zip(found, plain, strict=True)) for name, found in costs.items()}
    return {PLAIN: median(plain), **added}


def table(figures: dict[str, float]) -> str:
    lines = [f"{'plugin':24}{'added CPU us/request':>22}{'required':>12}", "-" * 58]
    for name, figure in figures.items():
        required = REQUIRED.get(name)
        verdict = "" if required is None else f"<= {required:g} {'yes' if figure <= required else 'NO'}"
        lines.append(f"{name:24}{figure:22.2f}{verdict:>12}")
    lines.append(f"{PLAIN} is the whole of a plain request. Not measured: {', '.join(UNMEASURED)}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-plugins")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=5000, help="of each route in a round")
    options = parser.parse_args()
    loop = asyncio.new_event_loop()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        state = HostState(Path(folder) / "state")
        counters = LimitRows(Path(folder) / "state", state.worker)
        measured = drivers(counters, loop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        figures = measure(measured, options.rounds, options.requests)
        counters.close()
        state.close()
    loop.close()
    sys.stdout.write(table(figures))


if __name__ == "__main__":
    main()
