"""Workers that count for limits, as processes: `python -m tests.support.limits ROLE DIRECTORY ...`.

A role says `ready`, waits for a line, does its work and says what came of it; it waits for its end if it holds something.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.limits.gauge import Gauge
from shared.limits.windows import FixedWindow, SlidingWindow
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.limits import LimitRows
from tests.support.host_state import ROOT, say

KEY = b"key"
WINDOW = 3600


def hammer(rows: LimitRows, count: int, times: int) -> None:
    """Says how many of its requests passed, in a fixed window and in a sliding one."""
    fixed, sliding = FixedWindow(count, WINDOW), SlidingWindow(count, WINDOW)
    passed = [0, 0]
    for _ in range(times):
        passed[0] += rows.change(KEY, fixed.take)[0] >= 0
        passed[1] += rows.change(b"sliding", sliding.take)[0] >= 0
    say(*passed)


def occupy(rows: LimitRows, limit: int, times: int) -> None:
    """Enters as often as it can and stays."""
    gauge = Gauge(limit, rows.worker, rows.is_alive)
    say(sum(rows.change(KEY, gauge.enter) is not None for _ in range(times)))
    sys.stdin.readline()


def churn(rows: LimitRows, limit: int, times: int) -> None:
    """Counts new keys without end."""
    window = FixedWindow(limit, WINDOW)
    say("counting")
    number = 0
    while number < times:
        rows.change(b"%d" % (number % limit), window.take)
        number += 1


class Counting:
    """A role that runs."""

    def __init__(self, role: str, directory: Path, *arguments: int) -> None:
        command = [sys.executable, "-m", "tests.support.limits", role, str(directory), *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def counting(role: str, directory: Path, *arguments: int, processes: int = 1) -> Iterator[list[Counting]]:
    """Ready, and begun at once."""
    started = [Counting(role, directory, *arguments) for _ in range(processes)]
    try:
        for one in started:
            assert one.line() == ["ready"]
        for one in started:
            one.go()
        yield started
    finally:
        for one in started:
            one.kill()


def main(role: str, directory: str, *arguments: str) -> None:
    state = HostState(Path(directory))
    rows = LimitRows(Path(directory), state.worker)
    say("ready")
    sys.stdin.readline()
    {"hammer": hammer, "occupy": occupy, "churn": churn}[role](rows, *map(int, arguments))
    rows.close()
    state.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
