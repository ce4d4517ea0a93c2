"""The processes of a run: each on a loopback port of its own, each stopped by its pid, whatever ends the run.

The law: a server is handed out when it answers, and a server that ended by itself is an error with the end of its log.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from tests.bench.encryption import anybody
from tests.bench.errors import BenchError
from tests.bench.tools import ROOT

HOST = "127.0.0.1"
START_SECONDS = 30.0
# A worker drains first; its connections are idle by then.
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    tls: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, path: str) -> Answer:
        """One request on a connection of its own. Raises OSError or HTTPException."""
        connection = (
            HTTPSConnection(HOST, self.port, timeout=5, context=anybody())
            if self.tls
            else HTTPConnection(HOST, self.port, timeout=5)
        )
        try:
            return ask(connection, path)
        finally:
            connection.close()

    def await_answer(self, path: str, status: int = 200, seconds: float = START_SECONDS) -> None:
        """Raises BenchError when the server ends first, or does not answer so in time."""
        last: list[str] = ["nothing"]

        def answers() -> bool:
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended with code {self.process.returncode}:\n{self.end_of_log()}")
            try:
                last[0] = str(self.get(path).status)
            except (OSError, http.client.HTTPException) as error:
                last[0] = repr(error)
            return last[0] == str(status)

        if not until(answers, seconds):
            raise BenchError(f"{self.name} answers {path} with {last[0]}, expected {status}:\n{self.end_of_log()}")

    def end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def ask(connection: HTTPConnection, path: str) -> Answer:
    """One GET on a connection that may be kept."""
    connection.request("GET", path, headers={"user-agent": "bench"})
    response = connection.getresponse()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def running(
    name: str,
    port: int,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    tls: bool = False,
) -> Iterator[Server]:
    """The process, perhaps not answering yet; stopped when the block is left."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A ctrl-C is for the benchmark alone, which stops its servers in order.
            start_new_session=True,
        )
    try:
        yield Server(name, port, process, log, tls)
    finally:
        _stop(process)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones: all are held until the last is known."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False when it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
