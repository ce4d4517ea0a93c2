"""Runs `waspgate` as a user does: a real process, its own state directory, free ports, and deadlines instead of sleeps."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]

# Starting Python twice on a busy machine takes seconds; this is the point where waiting longer is useless.
DEADLINE_SECONDS = 30.0
# No pages on ports that tests would fight over, and nothing in the user's cache.
APART = {"WASPGATE_PROMETHEUS": "", "WASPGATE_CONTROL": "", "WASPGATE_STATUS": ""}
APART |= {"XDG_CACHE_HOME": str(ROOT / ".build" / "cache")}


def free_port() -> int:
    """A port that nobody listens on. Another process could take it before it is used; then the test fails clearly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def get(url: str, **headers: str) -> httpx.Response | None:
    """None while nobody answers."""
    try:
        return httpx.get(url, headers=headers, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None


def answers(url: str, status: int = 200) -> bool:
    response = get(url)
    return response is not None and response.status_code == status


@dataclass(frozen=True, slots=True)
class Command:
    """A running command; its output goes to a file, so that a full pipe never stops it."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status after this signal."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def wait_for(self, url: str, status: int = 200) -> None:
        """Until the URL answers with this status; fails with the output when the process ends first."""

        def reached() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            return answers(url, status)

        wait_until(reached, f"{url} answers {status}; output:\n{self.output}")


@contextmanager
def running(arguments: Sequence[str], folder: Path, **environment: str) -> Iterator[Command]:
    """`waspgate ARGUMENTS` with its state under `folder`; killed at the end if it still runs."""
    log = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "control_plane.cli.main", *arguments],
            cwd=ROOT,
            env=command_environment(folder, environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield Command(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def run(arguments: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`waspgate ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "control_plane.cli.main", *arguments],
        cwd=ROOT,
        env=command_environment(folder, environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )


def command_environment(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Nothing of the caller's settings, and the source checkout importable whether or not it is installed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WASPGATE_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state"), **APART, **environment}
