"""Compiled code on disk, so that a process that starts again does not compile again.

The law: what is given back is byte for byte what this installation stored for the same module and engine; anything else (cut,
changed, copied from elsewhere, put there by another user) is as if it were not there. Code is executed, so it is signed with
a key that lies in the directory, and nobody but their owner may write the directory or a file in it. What cannot be kept is
compiled again: no failure of the disk is one of the caller's.
"""

from __future__ import annotations

import hmac
import os
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

# A Go module of 3 MB compiles to 20 MB; the least recently used goes first.
MOST_BYTES: Final = 512 << 20
_KEY_FILE: Final = "key"
_KEY_BYTES: Final = 32
_SUFFIX: Final = ".code"
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def default_directory() -> Path:
    """In the user's cache. Raises CodeCacheError where there is none."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "waspgate" / "code"
    except RuntimeError as error:
        raise CodeCacheError(str(error)) from error


class CodeCacheError(Exception):
    """The directory cannot be used; the message says where and why."""


class CodeCache:
    """`engine` says what compiled the code and for what. Raises CodeCacheError."""

    def __init__(self, directory: Path, engine: str, most_bytes: int = MOST_BYTES) -> None:
        self._directory = directory
        self._engine = engine.encode()
        self._most_bytes = most_bytes
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = directory.lstat()
            if not stat.S_ISDIR(status.st_mode) or not _is_ours(status):
                raise CodeCacheError(f"{directory}: expected a directory that user {os.geteuid()} alone may write")
            self._key = self._read_key() or self._make_key()
        except OSError as error:
            raise CodeCacheError(f"{directory}: cannot be used: {error.strerror or error}") from error

    def get(self, module: bytes) -> bytes | None:
        name = self._name(module)
        held = self._read(name)
        if held is None:
            return None
        signature, code = held[: sha256().digest_size], held[sha256().digest_size :]
        if not hmac.compare_digest(signature, self._sign(name, code)):
            return None
        with suppress(OSError):
            os.utime(self._directory / name)
        return code

    def put(self, module: bytes, code: bytes) -> None:
        name = self._name(module)
        with suppress(OSError):
            self._write(name, self._sign(name, code) + code)
            self._make_room(keep=name)

    def _name(self, module: bytes) -> str:
        return sha256(self._engine + b"\0" + sha256(module).digest()).hexdigest() + _SUFFIX

    def _sign(self, name: str, code: bytes) -> bytes:
        """Name and code: an entry under another's name is none."""
        signature = hmac.new(self._key, name.encode(), sha256)
        signature.update(code)
        return signature.digest()

    # --- files

    def _read(self, name: str) -> bytes | None:
        """None when there is none, or one that others may have written."""
        try:
            file = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(file, "rb") as opened:
            status = os.fstat(file)
            try:
                return opened.read() if stat.S_ISREG(status.st_mode) and _is_ours(status) else None
            except OSError:
                return None

    def _write(self, name: str, data: bytes) -> None:
        """Whole or not at all: another process may read it meanwhile."""
        path = self._temporary(data)
        try:
            path.replace(self._directory / name)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _temporary(self, data: bytes) -> Path:
        file, path = tempfile.mkstemp(dir=self._directory)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(data)
        except OSError:
            Path(path).unlink(missing_ok=True)
            raise
        return Path(path)

    def _read_key(self) -> bytes | None:
        key = self._read(_KEY_FILE)
        return key if key is not None and len(key) == _KEY_BYTES else None

    def _make_key(self) -> bytes:
        """The first of several processes wins. A key that is no good is replaced, and all that it signed is void."""
        path = self._directory / _KEY_FILE
        made = self._temporary(os.urandom(_KEY_BYTES))
        try:
            for _ in range(2):
                with suppress(FileExistsError):
                    os.link(made, path)
                key = self._read_key()
                if key is not None:
                    return key
                path.unlink(missing_ok=True)
        finally:
            made.unlink(missing_ok=True)
        raise CodeCacheError(f"{path}: cannot be read back as a key of {_KEY_BYTES} bytes")

    def _make_room(self, keep: str) -> None:
        entries = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._most_bytes:
                break
            if path.name != keep:
                path.unlink(missing_ok=True)
                total -= size


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE
