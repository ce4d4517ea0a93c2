"""Files that one user may read: keys that are made once and kept beside the data.

The law: of two processes that start at once both get the same content, because the file appears complete under its name or
not at all; what others could have read is not used.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class PrivateFileError(OSError):
    """The file is there but cannot be used; `strerror` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


def load_or_create(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The file's text, and whether it was made just now; raises PrivateFileError or OSError."""
    if path.exists():
        return read_private(path), False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = make()
    if create_private(path, text):
        return text, True
    return read_private(path), False


def read_private(path: Path) -> str:
    """Raises PrivateFileError when others may read it, or OSError."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PrivateFileError(f"{path} may be read by others (mode {mode:04o}): run chmod 600 on it")
    return path.read_text()


def create_private(path: Path, text: str) -> bool:
    """False when another process was first: link never replaces a file."""
    temporary = _written(path, text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def replace_private(path: Path, text: str) -> None:
    os.replace(_written(path, text), path)


def _written(path: Path, text: str) -> str:
    """A file beside it; mkstemp makes it with mode 0600."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return temporary
