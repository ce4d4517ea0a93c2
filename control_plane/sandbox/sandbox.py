"""Where the control plane tries plugins out: a process of its own, begun when it is first needed.

The law: the event loop never waits for a plugin, and neither a plugin nor the compiler can harm more than the sandbox: a job
ends within its wall time, or the process is killed and the next job gets a new one. One job runs at a time; what was found
good is not run again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from control_plane.sandbox.job import Job, Refusal
from control_plane.sandbox.wire import WireError, pack, unpack

# What plugins may use is limited by their CPU time; this is for a machine that is busy.
WALL_SECONDS = 30.0
# More for a module that was not seen before: a Go plugin of 4 MiB takes 6 s of CPU time to compile, and 32 MiB are allowed.
COMPILE_SECONDS = 180.0
# A process that has closed its socket is about to end.
LAST_SECONDS = 2.0
# Good jobs remembered, 32 bytes each: 10,000 routes that are written again should not run 10,000 dry runs.
REMEMBERED = 16384
CHILD = ("-P", "-m", "control_plane.sandbox.child")
_ROOT = Path(__file__).resolve().parents[2]

log = structlog.get_logger()

# A module's bytes; None when they are not in the store.
Fetch = Callable[[], Awaitable[bytes | None]]


class SandboxError(Exception):
    """No verdict: there is no sandbox to try the plugin in."""


class Sandbox:
    """Close it when it is not needed any more; whoever waits then gets a SandboxError."""

    def __init__(self, wall_seconds: float = WALL_SECONDS) -> None:
        self._wall_seconds = wall_seconds
        self._thread = ThreadPoolExecutor(1, "sandbox")
        self._child: _Child | None = None
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._closed = False

    async def run(self, job: Job, fetch: Fetch) -> Refusal | None:
        """None: the plugin runs so. Raises SandboxError."""
        identity = job.identity
        if identity in self._good:
            self._good.move_to_end(identity)
            return None
        answer = await self._ask(job, b"")
        if answer.get("needs_module"):
            data = await fetch()
            if data is None:
                return Refusal("start", f"its module {job.sha256} is not in the store")
            answer = await self._ask(job, data)
        refusal = _refusal(answer)
        if refusal is None:
            self._good[identity] = None
            if len(self._good) > REMEMBERED:
                self._good.popitem(last=False)
        return refusal

    def close(self) -> None:
        self._closed = True
        if self._child is not None:
            self._child.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._child is not None:
            self._child.end()

    async def _ask(self, job: Job, data: bytes) -> dict[str, Any]:
        if self._closed:
            raise SandboxError("the sandbox is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, job, data)

    def _exchange(self, job: Job, data: bytes) -> dict[str, Any]:
        """In the thread: blocking, but never for longer than the wall time."""
        if self._child is not None and not self._child.lives:
            self._child.end()
            self._child = None
        child = self._child = self._child or self._begin()
        seconds = self._wall_seconds + (COMPILE_SECONDS if data else 0)
        try:
            return child.ask(job, data, seconds)
        except (TimeoutError, EOFError, OSError, WireError) as error:
            self._child = None
            status = child.end(0 if isinstance(error, TimeoutError) else LAST_SECONDS)
            if self._closed:
                raise SandboxError("the sandbox is closed") from None
            reason = _ending(error, status, seconds)
            log.warning("a dry run ended the sandbox", plugin=job.plugin, sha256=job.sha256, reason=reason)
            return {"refusal": {"stage": "start", "reason": reason}}

    def _begin(self) -> _Child:
        if self._closed:
            raise SandboxError("the sandbox is closed")
        child = None
        try:
            child = _Child()
            child.receive(self._wall_seconds)
        except (OSError, EOFError, WireError) as error:
            status = None if child is None else child.end(LAST_SECONDS)
            raise SandboxError(f"the sandbox did not start (status {status}): {error}") from error
        return child


class _Child:
    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, *CHILD, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                )
        except OSError:
            self._connection.close()
            raise

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: Job, data: bytes, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        for part in pack(job.document(), data):
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            self._connection.sendall(part)
        return self.receive(deadline - time.monotonic())

    def receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds

        def read(size: int) -> bytes:
            data = bytearray()
            while len(data) < size:
                self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = self._connection.recv(min(size - len(data), 1 << 20))
                if not piece:
                    raise EOFError("it ended")
                data += piece
            return bytes(data)

        document, _ = unpack(read)
        if not isinstance(document, dict):
            raise WireError("not an object")
        return document

    def kill(self) -> None:
        self._process.kill()

    def end(self, seconds: float = 0) -> int:
        """The status with which it ended: by itself within that time, or killed."""
        self._connection.close()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _environment() -> dict[str, str]:
    """Nothing that is meant for the control plane: the admin key is among it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WASPGATE_")}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))}


def _ending(error: BaseException, status: int, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"the dry run did not end within {seconds:g} s"
    if status < 0:
        return f"the dry run ended its process by {signal.Signals(-status).name}"
    return f"the dry run ended its process with status {status}"


def _refusal(answer: dict[str, Any]) -> Refusal | None:
    fields = answer.get("refusal")
    if fields is None:
        return None
    log_lines = tuple(str(line) for line in fields.get("log", ()))
    return Refusal(fields["stage"], str(fields["reason"]), log_lines, fields.get("configuration"))
