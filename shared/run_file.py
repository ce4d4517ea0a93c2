"""Where a running data plane can be found by the commands of its user: one file for each address that one listens on.

The law: the file is locked as long as its data plane lives, and the kernel lets go of the lock whatever ends it; so a file that
a crash left behind is never taken for a data plane, and no pid is signalled that belongs to another process by now.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """`reloads` counts those that ended, well or not; `error` is what was wrong with the last one."""

    pid: int
    reloads: int
    error: str | None


def state_home() -> Path:
    """Where the gateway keeps what it must not lose, unless it is told otherwise: the XDG state directory."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "waspgate"


def run_path(listen: str) -> Path:
    """`listen` is the address as HOST:PORT."""
    return state_home() / "run" / f"{listen}.json"


class RunFile:
    """Of the data plane that this process is. Not held by a forked child."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when it cannot be written."""
        self._path = path
        self._reloads = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise
        self._write(None)

    def reloaded(self, error: str | None) -> None:
        self._reloads += 1
        self._write(error)

    def _write(self, error: str | None) -> None:
        data = json.dumps(asdict(Run(os.getpid(), self._reloads, error))).encode()
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, data, 0)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def find_run(path: Path) -> Run | None:
    """The data plane that has this file; None when none does."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        return Run(**json.loads(os.pread(file, 65536, 0)))
    except ValueError:
        # Between being emptied and written.
        return None
    finally:
        os.close(file)
