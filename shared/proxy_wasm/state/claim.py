"""Who uses a host's state, so that what nobody uses any more is found and deleted.

The law: whoever uses a directory holds a shared lock on it, and a process that is killed lets go; only under the exclusive lock
is one deleted. So a gateway that was killed as a whole leaves its state in memory until the next one of its user starts, and
two that start at once never delete under each other.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from shared.proxy_wasm.state.directory import SHARED_MEMORY, HostStateError, discard, memory_directory, prepare


class Claim:
    """Forked children share it: the directory is in use until the last of them has ended."""

    __slots__ = ("_directory", "_file")

    def __init__(self, directory: Path) -> None:
        """Makes the directory. Raises HostStateError."""
        self._directory = directory
        while True:
            prepare(directory)
            try:
                self._file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HostStateError(f"{directory}: cannot be opened: {error.strerror}") from error
            fcntl.flock(self._file, fcntl.LOCK_SH)
            if _is_at(self._file, directory):
                return
            # It was deleted while this one waited for the lock.
            os.close(self._file)

    def release(self) -> None:
        """Delete the directory, unless others use it."""
        with suppress(OSError, HostStateError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            discard(self._directory)
        os.close(self._file)


def sweep() -> list[Path]:
    """Delete what gateways of this user have left that were killed; returns what was deleted."""
    own = [path for path in SHARED_MEMORY.glob(f"{memory_directory('').name}*") if _is_mine(path)]
    return [path for path in own if _delete_if_unused(path)]


def _is_mine(path: Path) -> bool:
    with suppress(OSError):
        return path.lstat().st_uid == os.geteuid() and path.is_dir() and not path.is_symlink()
    return False


def _delete_if_unused(directory: Path) -> bool:
    try:
        file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        discard(directory)
    except (OSError, HostStateError):
        return False
    finally:
        os.close(file)
    return True


def _is_at(file: int, path: Path) -> bool:
    with suppress(OSError):
        found = path.stat()
        opened = os.fstat(file)
        return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)
    return False
