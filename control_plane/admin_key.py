"""The file that keeps the admin key of an installation.

The law: the key is random, made once, and readable by its owner only; of two processes that start at once both get the
same key, because the file appears complete under its name or not at all.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from pathlib import Path

FILE_NAME = "admin.key"
# 32 random bytes: no one guesses 256 bits.
KEY_BYTES = 32


class AdminKeyError(OSError):
    """The key file is there but cannot be used; `strerror` says why."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


def load_or_create_admin_key(directory: Path) -> tuple[str, Path, bool]:
    """The key, its file, and whether it was made just now; raises AdminKeyError or OSError."""
    path = directory / FILE_NAME
    if path.exists():
        return _load(path), path, False
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_urlsafe(KEY_BYTES)
    if _create(path, key):
        return key, path, True
    return _load(path), path, False


def _load(path: Path) -> str:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise AdminKeyError(f"{path} may be read by others (mode {mode:04o}): run chmod 600 on it")
    key = path.read_text().strip()
    if not key or not key.isascii() or not key.isprintable():
        raise AdminKeyError(f"{path} does not hold a key: expected one line of printable ASCII")
    return key


def _create(path: Path, key: str) -> bool:
    """False when another process was first. mkstemp makes the file with mode 0600; link never replaces a file."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
