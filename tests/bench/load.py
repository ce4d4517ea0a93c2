"""Drives one proxy for some seconds, with wrk or over HTTP/2, and reads what it cost.

The law: every request must have been answered with success, or there is no figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import h2_load
from tests.bench.encryption import client_environment
from tests.bench.errors import BenchError
from tests.bench.proc import cpu_between, cpu_seconds
from tests.bench.server import HOST, Server
from tests.bench.tools import ROOT, path_of
from tests.bench.traffic import ROUTES
from tests.bench.works import PLAIN, Work

SCRIPT = Path(__file__).with_name("load.lua")
THREADS = 1
# What curl sends; the plugin reads the first.
HEADERS = ("User-Agent: bench/1.0", "Accept: */*")


@dataclass(frozen=True, slots=True)
class Figures:
    requests_per_second: float
    p99_ms: float
    cpu_us_per_request: float


def drive(server: Server, seconds: int, work: Work = PLAIN) -> Figures:
    """Raises BenchError."""
    before = cpu_seconds(server.pid)
    report = _h2(server, seconds, work) if work.h2 else _wrk(server, seconds, work)
    cpu = cpu_between(before, cpu_seconds(server.pid))
    errors = ", ".join(f"{count} {kind}" for kind, count in report["errors"].items() if count)
    if errors or not report["requests"]:
        raise BenchError(f"{server.name}: {report['requests']} requests, errors: {errors}\n{server.end_of_log()}")
    return Figures(
        requests_per_second=report["requests"] / (report["microseconds"] / 1e6),
        p99_ms=report["p99_microseconds"] / 1e3,
        cpu_us_per_request=cpu * 1e6 / report["requests"],
    )


def _h2(server: Server, seconds: int, work: Work) -> dict[str, Any]:
    command = [sys.executable, "-m", h2_load.__name__, str(server.port), str(seconds), str(ROUTES), work.resource]
    return _report(
        server, "the client of HTTP/2", subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    )


def _wrk(server: Server, seconds: int, work: Work = PLAIN) -> dict[str, Any]:
    headers = [argument for header in HEADERS for argument in ("-H", header)]
    command = [path_of("wrk"), f"-t{THREADS}", f"-c{work.connections}", f"-d{seconds}s", *headers]
    scheme = "https" if server.tls else "http"
    command += ["-s", str(SCRIPT), f"{scheme}://{HOST}:{server.port}/", "--", str(ROUTES), work.resource]
    environment = {**os.environ, **(client_environment(server.log.parent) if server.tls else {})}
    return _report(server, "wrk", subprocess.run(command, capture_output=True, text=True, check=False, env=environment))


def _report(server: Server, client: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode:
        raise BenchError(f"{client} failed on {server.name}: {done.stderr.strip() or done.stdout.strip()}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
