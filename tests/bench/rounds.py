"""The comparison: all proxies stand at once, and are driven in turn, round by round.

The law: what disturbs the machine for a while disturbs all alike; so a ratio is taken within a round, and a median over
the rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.load import Figures, drive
from tests.bench.proxies import Proxy
from tests.bench.server import Server
from tests.bench.traffic import check

# Enough for connections, caches and V8's second compiler; every route is asked for many times.
WARM_UP_SECONDS = 1


def compare(proxies: Sequence[Proxy], folder: Path, upstream_port: int, rounds: int, seconds: int) -> dict[str, list[Figures]]:
    """The figures of every round by the proxy's name. Raises BenchError."""
    figures: dict[str, list[Figures]] = {proxy.name: [] for proxy in proxies}
    with ExitStack() as stack:
        servers = {proxy.name: stack.enter_context(proxy.start(folder, upstream_port)) for proxy in proxies}
        _check(proxies, servers)
        for proxy in proxies:
            drive(servers[proxy.name], WARM_UP_SECONDS, proxy.work)
        for number in range(1, rounds + 1):
            for proxy in proxies:
                taken = drive(servers[proxy.name], seconds, proxy.work)
                figures[proxy.name].append(taken)
                _tell(f"round {number} of {rounds}: {proxy.name} {taken.cpu_us_per_request:.1f} us/request")
        _check(proxies, servers)
    return figures


def _check(proxies: Sequence[Proxy], servers: dict[str, Server]) -> None:
    for proxy in proxies:
        check(servers[proxy.name], proxy.work)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
