"""The workers of a host, as they know each other: a number, a pipe to be woken by, and certainty about who is dead.

The law: a worker is alive exactly as long as it holds its pipe open, and a number is never given twice. The pipe says only
"look": what there is to see stands in the tables, so a byte that is lost or doubled changes nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

import lmdb

from shared.proxy_wasm.state.directory import HostStateError, knock, pipe_path
from shared.proxy_wasm.state.environment import Environment
from shared.proxy_wasm.state.keys import U64, rows

# Rows under this number belong to nobody: counts of the dead, events that wait for a registrant.
NOBODY = 0

_WAKE = b"!"
_DRAIN_BYTES = 65536  # a pipe's whole buffer


class Worker:
    """This process among the workers. Not inherited by a forked child; closed by exec."""

    __slots__ = ("_environment", "_pipe", "number")

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._pipe = -1
        try:
            # The pipe is open before the row can be seen, or another worker would take this one for dead.
            with environment.write() as txn:
                self.number = environment.next_number(txn, b"worker")
                self._open_pipe()
                txn.put(U64.pack(self.number), U64.pack(os.getpid()), db=environment.tables.workers)
        except (lmdb.Error, OSError) as error:
            self._close_pipe()
            raise HostStateError(f"{environment.directory}: a worker cannot join: {error}") from error

    def _open_pipe(self) -> None:
        path = pipe_path(self._environment.directory, self.number)
        # Of a worker that was killed between making it and committing its number.
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # Opened for writing as well, so that it never reports its end when a writer has gone.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
            pipe_path(self._environment.directory, self.number).unlink(missing_ok=True)

    def ready_fd(self) -> int:
        """Readable when there may be events to take."""
        return self._pipe

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._pipe, _DRAIN_BYTES)

    def wake(self, number: int) -> bool:
        """False when that worker is dead. Called after the commit of what it shall see."""
        return knock(pipe_path(self._environment.directory, number), _WAKE)

    def dead(self) -> list[int]:
        """The numbers of workers that have died and whose rows nobody has taken care of yet."""
        with self._environment.read() as txn:
            numbers = [U64.unpack(key)[0] for key, _ in rows(txn, self._environment.tables.workers)]
        directory = self._environment.directory
        return [number for number in numbers if number != self.number and not knock(pipe_path(directory, number))]

    def is_known(self, number: int) -> bool:
        """Whether this worker lives, or died a moment ago: its rows are somebody's still."""
        try:
            with self._environment.read() as txn:
                return txn.get(U64.pack(number), db=self._environment.tables.workers) is not None
        except lmdb.Error:
            return True

    def close(self) -> None:
        """From now on this worker counts as dead."""
        self._close_pipe()

    def __repr__(self) -> str:
        return f"<Worker {self.number} pid={os.getpid()}>"
