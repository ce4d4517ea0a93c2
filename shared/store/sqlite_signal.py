"""How one process learns that another has committed to the embedded store, without burning CPU.

The law: a committed change is noticed, by announcement at once and by looking otherwise. A writer touches the store
file after each commit, and the kernel tells every process that watches it (inotify): 0.2 ms, and nothing while idle.
A timer looks as well, for a writer that died between commit and touch; where there is no inotify it is all there is,
and runs fast.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_IN_ATTRIB: Final = 0x4
# A poll costs up to 100 us of CPU with its wake-up: 20 ms keeps the promise of 50 ms, 1 s costs nothing.
POLL_SECONDS: Final = 0.02
POLL_BESIDE_INOTIFY_SECONDS: Final = 1.0


def announce(path: Path) -> None:
    """Called after a commit. A failure costs the others a second, and is no failure of the commit."""
    with suppress(OSError):
        os.utime(path)


class ChangeSignal:
    """Wakes every listener of one store object when the file may have changed. Lives on the event loop's thread."""

    __slots__ = ("_descriptor", "_listeners", "_loop", "_path", "_period", "_probe", "_seen", "_timer")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._listeners: set[asyncio.Event] = set()
        # A connection of its own, without waiting: the probe must never block the loop. In WAL mode it takes 3 us.
        self._probe = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._seen = self._data_version()
        self._descriptor = _inotify(path)
        self._period = POLL_SECONDS if self._descriptor is None else POLL_BESIDE_INOTIFY_SECONDS
        if self._descriptor is not None:
            self._loop.add_reader(self._descriptor, self._announced, self._descriptor)
        self._timer = self._loop.call_later(self._period, self._look)

    def close(self) -> None:
        self._timer.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._probe.close()
        self.wake()

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change from now on; the listener clears it before it reads."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    def wake(self) -> None:
        for event in self._listeners:
            event.set()

    def _announced(self, descriptor: int) -> None:
        with suppress(BlockingIOError):
            os.read(descriptor, 4096)
        self.wake()

    def _look(self) -> None:
        version = self._data_version()
        if version != self._seen:
            self._seen = version
            self.wake()
        self._timer = self._loop.call_later(self._period, self._look)

    def _data_version(self) -> int | None:
        """A number that changes with every commit; None (which never equals the last) while the file is locked."""
        try:
            version: int = self._probe.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None
        return version


def _inotify(path: Path) -> int | None:
    """A descriptor that becomes readable when the file is touched; None where the kernel offers or grants none."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return None
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_ATTRIB) < 0:
        os.close(descriptor)
        return None
    return descriptor
