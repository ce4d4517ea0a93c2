"""`make bench-control`: how fast a change of the configuration is live, and what configurations cost.

Prints a table; the last column has what is required. Everything runs on this machine: one etcd that does not wait for its disk,
one control plane, a data plane of four workers, and the client that measures. `python -m tests.bench_control --help`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.bench.result import percentile
from tests.bench_control.site import ANSWER, Serving, control_plane, data_plane, etcd_with
from tests.bench_control.workers import ask, connections

WRITERS = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """`most` is what is required, None where nothing is."""

    name: str
    routes: int
    value: float
    unit: str
    most: float | None = None

    def line(self) -> str:
        required = "" if self.most is None else f"< {self.most:g} {self.unit}  {'ok' if self.value < self.most else 'TOO MUCH'}"
        return f"{self.routes:>8,}  {self.name:<46} {self.value:>10,.1f} {self.unit:<8} {required}".rstrip()


def main() -> int:
    options = _options()
    figures: list[Figure] = []
    for routes in options.routes:
        with tempfile.TemporaryDirectory(prefix="bench-control-") as folder:
            for figure in measure(Path(folder), routes, options):
                figures.append(figure)
                sys.stdout.write(f"{figure.line()}\n")
                sys.stdout.flush()
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2))
    return 0 if all(figure.most is None or figure.value < figure.most for figure in figures) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_control", description="Propagation, writes, starts, memory.")
    parser.add_argument("--routes", type=_numbers, default=[1_000, 100_000], metavar="N,N", help="default 1000,100000")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="default 4")
    parser.add_argument("--samples", type=int, default=300, metavar="N", help="changes to measure, default 300")
    parser.add_argument("--seconds", type=float, default=5.0, help="of writing, default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures as well")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(folder: Path, routes: int, options: argparse.Namespace) -> Iterator[Figure]:
    """Each as soon as it is known."""
    empty = _memory_without_routes(folder)
    with etcd_with(folder, routes) as etcd:
        with data_plane(folder, etcd.url, 1) as alone:
            yield Figure("cold start to the first request, 1 worker", routes, alone.seconds, "s", 15.0)
            yield Figure("memory of a route in a worker", routes, (_memory(alone) - empty) / routes, "bytes")
        with data_plane(folder, etcd.url, options.workers) as serving, control_plane(folder, etcd.url) as admin:
            yield Figure(f"cold start to the first request, {options.workers} workers", routes, serving.seconds, "s")
            yield from _changes(admin, serving, routes, options)


def _changes(admin: httpx.Client, serving: Serving, routes: int, options: argparse.Namespace) -> Iterator[Figure]:
    probes = connections(serving.plane.port, serving.workers())
    live = [_until_live(admin, probes, number) for number in range(options.samples)]
    yield from _of(routes, "PUT until all workers serve it", live, 100.0)
    waited = [_wait(admin, number) for number in range(options.samples)]
    yield from _of(routes, "PUT with wait=applied until its answer", waited, None)
    added = percentile(waited, 50) - percentile(live, 50)
    yield Figure("what waiting adds, median", routes, added * 1000, "ms", 20.0)
    yield Figure("writes", routes, _writes(admin, options.seconds), "1/s")
    yield Figure("shared upstream's timeout until all serve it", routes, _shared(admin) * 1000, "ms")


def _of(routes: int, name: str, seconds: Sequence[float], most: float | None) -> list[Figure]:
    return [
        Figure(f"{name}, median", routes, percentile(seconds, 50) * 1000, "ms"),
        Figure(f"{name}, p99", routes, percentile(seconds, 99) * 1000, "ms", most),
    ]


def _probe(number: int) -> dict[str, object]:
    return {"uri": f"/probe/{number}", "plugins": ANSWER}


def _until_live(admin: httpx.Client, probes: Sequence[HTTPConnection], number: int) -> float:
    """Until each worker has answered the new path; the old one is gone with the same change."""
    began = time.monotonic()
    admin.put("routes/probe", json=_probe(number)).raise_for_status()
    for probe in probes:
        while ask(probe, f"/probe/{number}") != 200:
            time.sleep(0.0005)
    return time.monotonic() - began


def _wait(admin: httpx.Client, number: int) -> float:
    began = time.monotonic()
    admin.put("routes/probe?wait=applied", json=_probe(number)).raise_for_status()
    return time.monotonic() - began


def _shared(admin: httpx.Client) -> float:
    """A change that every route has to know of."""
    began = time.monotonic()
    change = {"nodes": {"127.0.0.1:1": 1}, "timeout": {"connect": 7, "send": 7, "read": 7}}
    admin.put("upstreams/shared?wait=applied&timeout=120", json=change, timeout=150).raise_for_status()
    return time.monotonic() - began


def _writes(admin: httpx.Client, seconds: float) -> float:
    """Of several writers at once, each on a route of its own."""
    until = time.monotonic() + seconds

    def write(writer: int) -> int:
        count = 0
        while time.monotonic() < until:
            admin.put(f"routes/writer-{writer}", json={"uri": f"/writer/{writer}", "plugins": ANSWER}).raise_for_status()
            count += 1
        return count

    with ThreadPoolExecutor(WRITERS) as pool:
        return sum(pool.map(write, range(WRITERS))) / seconds


def _memory_without_routes(folder: Path) -> int:
    with etcd_with(folder / "empty", 1) as etcd, data_plane(folder, etcd.url, 1) as serving:
        return _memory(serving)


def _memory(serving: Serving) -> int:
    """Resident, of the largest worker."""
    return max(_resident(pid) for pid in serving.workers())


def _resident(pid: int) -> int:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
