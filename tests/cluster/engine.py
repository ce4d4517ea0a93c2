"""The Docker engine, as docker-compose.yml is run and hurt on it.

The law: every command is one that an operator could type, and one that fails ends the run with its own words.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.command import ROOT

# Of what a command says when it fails: its end.
WORDS = 2000
PROJECT = "waspgate-test"


class EngineError(Exception):
    """One line for whoever started the run, or a command's own words."""


async def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What it wrote to standard output. Raises EngineError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    if process.returncode != 0:
        words = (said + complained).decode(errors="replace")[-WORDS:].strip()
        raise EngineError(f"{' '.join(command)} ended with status {process.returncode}: {words}")
    return said.decode(errors="replace")


async def compose_command() -> list[str]:
    """Version 2 where it is there, else version 1. Raises EngineError."""
    if shutil.which("docker") is None:
        raise EngineError("there is no docker on PATH: install a Docker engine and docker-compose (Debian: docker.io)")
    try:
        await run(["docker", "info"])
    except EngineError as error:
        raise EngineError("no Docker engine answers: start one, and be a user that may talk to it") from error
    try:
        await run(["docker", "compose", "version"])
    except EngineError as error:
        if shutil.which("docker-compose") is None:
            raise EngineError("neither `docker compose` nor `docker-compose` is there (Debian: docker-compose)") from error
        return ["docker-compose"]
    return ["docker", "compose"]


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}-{self.number}"


class Cluster:
    """The services of docker-compose.yml under a name of their own, with their ports on this machine's loopback."""

    def __init__(self, compose: Sequence[str], ports: Mapping[str, int]) -> None:
        self.ports = ports
        self._compose = compose
        self._environment = {"COMPOSE_PROJECT_NAME": PROJECT, **{name: str(port) for name, port in ports.items()}}

    async def compose(self, *arguments: str) -> str:
        return await run([*self._compose, *arguments], self._environment)

    async def scale(self, data_planes: int, *options: str) -> None:
        """Bring up what is not there yet, with so many data planes."""
        await self.compose("up", "--detach", *options, "--scale", f"data-plane={data_planes}")

    async def containers(self, service: str) -> list[Container]:
        """Those that run, by number."""
        labels = [f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={service}"]
        shape = '{{.ID}} {{.Label "com.docker.compose.container-number"}}'
        said = await run(["docker", "ps", "--format", shape, "--filter", labels[0], "--filter", labels[1]])
        found = [line.split() for line in said.splitlines()]
        return sorted((Container(id, service, int(number)) for id, number in found), key=lambda one: one.number)

    async def docker(self, verb: str, *arguments: str) -> str:
        return await run(["docker", verb, *arguments])

    async def network(self, verb: str, name: str, container: Container) -> None:
        """`connect` or `disconnect`. Whoever comes back has his name again."""
        alias = ["--alias", container.service] if verb == "connect" else []
        await run(["docker", "network", verb, *alias, f"{PROJECT}_{name}", container.id])

    async def python(self, container: Container, program: str) -> str:
        """What a program says inside of a container."""
        return await run(["docker", "exec", container.id, "python", "-IS", "-c", program])
