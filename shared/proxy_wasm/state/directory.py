"""The directory that holds a host's state: where it lies, who may use it, what lies in it.

The law: it belongs to one user and nobody else can enter it, because shared data and queues are plugins' secrets, and
/dev/shm is open to everybody. It holds LMDB's two files, one pipe for each worker that has joined, traces of requests, and
counters of limits and responses that are kept, once there are any.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PIPE_PREFIX = "worker-"
TRACE_PREFIX = "trace-"
LMDB_FILES = ("data.mdb", "lock.mdb")
LIMITS_FILE = "limits.mdb"

# Opened by nobody, never made or already cleared, and closed between opening and writing.
_NOBODY_READS = (errno.ENXIO, errno.ENOENT, errno.EPIPE)


class HostStateError(Exception):
    """The state cannot be opened or used; the message says where and why."""


def memory_directory(name: str) -> Path:
    """The place for the state of the gateway called `name`, in memory."""
    return SHARED_MEMORY / f"waspgate-{name}"


def prepare(directory: Path) -> None:
    """Makes the directory, or refuses one that others could read, fill or have put there."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise HostStateError(f"{directory}: cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise HostStateError(f"{directory}: expected a directory, found a link or a file")
    if status.st_uid != os.geteuid():
        raise HostStateError(f"{directory}: belongs to user {status.st_uid}, expected user {os.geteuid()}")
    if status.st_mode & 0o077:
        raise HostStateError(f"{directory}: others may enter it (mode {status.st_mode & 0o777:o}), expected mode 700")


def pipe_path(directory: Path, worker: int) -> Path:
    return directory / f"{PIPE_PREFIX}{worker}"


def knock(path: Path, message: bytes = b"") -> bool:
    """Writes to a worker's pipe; False when nobody reads it, so its worker is dead.

    The kernel closes a dead process's end of the pipe, whatever killed it, so this is exact where a pid (used again) and a
    heartbeat (late) are not. Any other failure says nothing about the worker: a full pipe has woken it already, and where
    this process has no descriptor left, the worker's slow timer must do.
    """
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno not in _NOBODY_READS
    try:
        if message:
            os.write(pipe, message)
    except OSError as error:
        return error.errno not in _NOBODY_READS
    finally:
        os.close(pipe)
    return True


def discard(directory: Path) -> None:
    """Deletes the state of a gateway that has stopped; refuses while a worker lives. Nothing there is no error."""
    pipes = sorted(directory.glob(f"{PIPE_PREFIX}*"))
    living = [pipe.name for pipe in pipes if knock(pipe)]
    if living:
        raise HostStateError(f"{directory}: still used by {', '.join(living)}")
    # LMDB's own files have names with `-lock` behind, where they are not in a directory of their own.
    for path in [*pipes, *directory.glob(f"{TRACE_PREFIX}*"), *directory.glob("*.mdb*")]:
        path.unlink(missing_ok=True)
    if directory.is_dir():
        directory.rmdir()
