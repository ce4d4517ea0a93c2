"""`python -m data_plane` as a process, on a store of its own: what its log says, who its workers are, what it answers.

The law: it has free ports, no pages unless options ask for them, and ends when its context does.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.keys import resource_key
from shared.store.url import open_store
from tests.support.command import APART, ROOT, free_port, wait_until
from tests.support.gateway import HOST
from tests.support.raw_http import client


def write_route(store_url: str, upstream_port: int) -> None:
    document = {"id": "1", "uri": "/*", "upstream": {"nodes": {f"{HOST}:{upstream_port}": 1}}}

    async def put() -> None:
        async with open_store(store_url) as store:
            await store.put(resource_key("routes", "1"), json.dumps(document).encode())

    asyncio.run(put())


class DataPlane:
    """With `serves`, the port of an upstream, it has its route from the start. `more` are variables, which say where to
    listen if `listen` is false."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        store: str | None = None,
        files: int | None = None,
        serves: int | None = None,
        more: Mapping[str, str] | None = None,
        listen: bool = True,
    ) -> None:
        environment = {**os.environ, **APART, "XDG_STATE_HOME": str(folder / "state"), **(more or {})}
        self.port = free_port()
        self.store = store or f"sqlite://{folder}/config.db"
        if serves is not None:
            write_route(self.store, serves)
        self._log = folder / "log"
        command = [sys.executable, "-m", "data_plane", "--store", self.store, *options]
        command += ["--listen", f"{HOST}:{self.port}"] if listen else []

        def limit() -> None:
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=limit)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, object]]:
        return [event for line in self.log.splitlines() if (event := json.loads(line))["event"] == name]

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def serve(self, upstream_port: int) -> None:
        """One route for everything."""
        write_route(self.store, upstream_port)
        wait_until(lambda: self.status() == 200, "the route is served")

    def status(self) -> int | None:
        """Of a request on a connection of its own; None when there is no answer."""
        try:
            with client(self.port) as raw:
                return raw.get().status
        except (OSError, EOFError):
            return None

    def ready(self, workers: int) -> None:
        wait_until(lambda: len(self.events("ready")) >= workers, f"{workers} workers are ready")

    def wait(self, seconds: float = 15) -> int:
        return self.process.wait(seconds)


@contextmanager
def data_plane(
    folder: Path,
    *options: str,
    store: str | None = None,
    files: int | None = None,
    serves: int | None = None,
    more: Mapping[str, str] | None = None,
    listen: bool = True,
) -> Iterator[DataPlane]:
    running = DataPlane(folder, *options, store=store, files=files, serves=serves, more=more, listen=listen)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        try:
            running.process.wait(15)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
