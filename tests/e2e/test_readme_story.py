"""The README's story, word for word: every `console` block is typed into one shell, and what it shows must come out.

The law: `...` in the README stands for anything, ports are replaced by free ones, and a request to the gateway is repeated
for a while until its answer is as written, because a reader is slower than a worker that follows the store.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import which

import pytest

from tests.support.command import APART, DEADLINE_SECONDS, ROOT, free_port, wait_until
from tests.support.etcd import binary

MARK = "--- end of output"
ADDRESS = re.compile(r"127\.0\.0\.1:([0-9]{4})")


class Ports:
    """A free port for each one that the README names."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}

    def address(self, port: str) -> str:
        return f"127.0.0.1:{self._free.setdefault(port, free_port())}"

    def replace(self, text: str) -> str:
        return ADDRESS.sub(lambda match: self.address(match[1]), text)


class Shell:
    """One bash that keeps its variables and jobs from command to command, as a reader's terminal does."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._jobs = 0
        with (folder / "shell.log").open("wb") as errors:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"],
                cwd=folder / "checkout",
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self.run("set -m")

    def run(self, command: str) -> str:
        """What the command writes to its standard output."""
        if command.endswith(" &"):
            self._jobs += 1
            where = "" if ">" in command else f" > {self._folder}/job-{self._jobs}.log 2>&1"
            command = f"{command[:-2]}{where} < /dev/null &"
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\necho; echo '{MARK}'\n".encode())
        self._process.stdin.flush()
        return self._read_to_mark(command)

    def _read_to_mark(self, command: str) -> str:
        assert self._process.stdout is not None
        output, end = b"", f"\n{MARK}\n".encode()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not output.endswith(end):
            ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
            assert ready, f"no end within {DEADLINE_SECONDS} s: {command}\n{output.decode()}"
            output += os.read(self._process.stdout.fileno(), 65536)
        return output.removesuffix(end).decode().replace("\r\n", "\n")

    def close(self) -> None:
        """Ask the jobs to end as a closed terminal would, and wait for it; what refuses is killed."""
        pids = self.run("jobs -p").split()
        for number, seconds in ((signal.SIGTERM, DEADLINE_SECONDS), (signal.SIGKILL, 5.0)):
            alive = [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
            for pid in alive:
                os.killpg(int(pid), number)
            deadline = time.monotonic() + seconds
            while any(Path(f"/proc/{pid}").exists() for pid in alive) and time.monotonic() < deadline:
                self.run("wait -n 2> /dev/null")
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)
        if self._process.stdout is not None:
            self._process.stdout.close()


def blocks() -> list[list[tuple[str, str]]]:
    """The console blocks of the README: pairs of a command and the output that is shown below it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        [(step.partition("\n")[0], step.partition("\n")[2]) for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
        for block in found
    ]


def pattern(shown: str) -> re.Pattern[str]:
    return re.compile("".join(map(line_pattern, shown.splitlines())))


def line_pattern(line: str) -> str:
    if line == "...":
        return "(?:.*\n)*?"
    return ".*".join(map(re.escape, line.split("..."))) + "\n"


def matches(shown: str, output: str) -> bool:
    return pattern(shown).fullmatch(output.removesuffix("\n") + "\n" if output else "") is not None


def await_listener(ports: Ports, command: str) -> None:
    """A command in the background is ready when its ports are."""
    if command.startswith("waspgate up"):
        wanted = ["9080", "9180"]
    elif command.startswith("waspgate control-plane"):
        wanted = ["9180"]
    elif command.startswith("etcd"):
        wanted = ["2379"]
    else:
        wanted = ADDRESS.findall(command.partition("--listen")[2])
    for port in wanted:
        wait_until(partial(listens, ports.address(port)), f"{command}: port {port} listens")


def listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def shell(tmp_path: Path, ports: Ports) -> Iterator[Shell]:
    """In a folder that looks like a checkout, with `waspgate`, `python` and `etcd` on the path, and an empty home."""
    commands, checkout = tmp_path / "bin", tmp_path / "checkout"
    commands.mkdir()
    checkout.mkdir()
    for name in ("deploy", ".build"):
        (checkout / name).symlink_to(ROOT / name)
    script(commands / "waspgate", f'exec {sys.executable} -m control_plane.cli.main "$@"')
    script(commands / "python", f'exec {sys.executable} "$@"')
    script(commands / "etcd", f'exec {binary("etcd")} "$@"')
    if which("curl") is None:
        script(commands / "curl", f'exec {sys.executable} -m tests.support.curl "$@"')
    environment = {
        "PATH": f"{commands}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "WASPGATE_LISTEN": ports.address("9080"),
        "WASPGATE_ADMIN": ports.address("9180"),
        **APART,
    }
    shell = Shell(tmp_path, environment)
    yield shell
    shell.close()


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_story_works_word_for_word(shell: Shell, ports: Ports) -> None:
    steps = [step for block in blocks() for step in block]
    assert len(steps) > 15
    for command, shown in steps:
        perform(shell, ports, command, shown)


def perform(shell: Shell, ports: Ports, command: str, shown: str) -> None:
    typed = ports.replace(command)
    output = shell.run(typed)
    if command.endswith(" &"):
        await_listener(ports, command)
    deadline = time.monotonic() + DEADLINE_SECONDS
    # A request that only reads may be asked again.
    while " -X " not in command and command.startswith("curl") and not matches(shown, output):
        assert time.monotonic() < deadline, f"$ {typed}\n{output}\nwhere the README shows\n{shown}"
        output = shell.run(typed)
    assert matches(shown, output), f"$ {typed}\n{output}\nwhere the README shows\n{shown}"
