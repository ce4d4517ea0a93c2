"""Cuts a call that uses too much CPU time, from a thread of its own.

The law: what counts is the calling thread's CPU clock, so a worker that the machine does not schedule kills nobody; and only
the call that used the time is cut, not one that began while the watchdog made up its mind.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The words that a call writes, where native code finds them too (native_entry.c): how many entries and exits there were,
# whether a call was cut, the limit in microseconds, and the address of the wire of the plugin that is called.
ENTRIES, FIRED, LIMIT, WIRE = range(4)


class Watchdog:
    """Interrupts the call that has used up its CPU time.

    `entries` is odd while a call runs. The thread looks every few milliseconds; a call that it sees twice is measured by the
    calling thread's CPU clock from the first look, so a call is cut between its limit and its limit plus one look. It looks no
    more often than that needs: each look takes the interpreter from the thread that serves (700 looks a second added 10 us to
    every request of a busy worker).

    Python may collect garbage in a host function, which takes a large configuration longer than any limit: that time is not
    the plugin's.
    """

    LOOK = 0.010
    CLOSE_LOOK = 0.001

    __slots__ = (
        "_clock", "_collecting", "_excused", "_interrupt", "_lock", "_stopped", "_thread", "_watched", "place", "words",
    )  # fmt: skip

    def __init__(self, interrupt: Callable[[int], None]) -> None:
        self.place = (ctypes.c_int64 * 4)()
        self.words = memoryview(self.place).cast("B").cast("q")
        self.limit = 0.02
        self._interrupt = interrupt
        self._lock = threading.Lock()
        self._stopped = False
        self._clock = -1
        self._watched = -1
        self._collecting = -1.0
        self._excused = 0.0
        self._thread: threading.Thread | None = None

    @property
    def entries(self) -> int:
        return self.words[ENTRIES]

    @property
    def fired(self) -> bool:
        return bool(self.words[FIRED])

    @property
    def limit(self) -> float:
        """Seconds of CPU time that the call which runs, or the next one, may take."""
        return self.words[LIMIT] / 1e6

    @limit.setter
    def limit(self, seconds: float) -> None:
        self.words[LIMIT] = microseconds(seconds)

    def start(self) -> None:
        """Watch the calling thread from now on."""
        self._watched = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._watched)
        if self._thread is None:
            self._stopped = False
            gc.callbacks.append(self._collected)
            self._thread = threading.Thread(target=self._run, name="wasm-watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        if self._thread is not None:
            self._thread.join()
            gc.callbacks.remove(self._collected)
            self._thread = None

    def excuse(self, seconds: float) -> None:
        """The watched thread has used this time for something that is not the plugin's."""
        self._excused += seconds

    @contextmanager
    def excused(self) -> Iterator[None]:
        """What the watched thread does in here is not the plugin's."""
        self._collecting = begun = time.thread_time()
        try:
            yield
        finally:
            self._excused += time.thread_time() - begun
            self._collecting = -1.0

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if not self.entries & 1 or threading.get_ident() != self._watched:
            return
        if phase == "start":
            self._collecting = time.thread_time()
        elif self._collecting >= 0:
            self._excused += time.thread_time() - self._collecting
            self._collecting = -1.0

    def _run(self) -> None:
        seen, since, pause = -1, 0.0, self.LOOK
        while not self._stopped:
            time.sleep(pause)
            entries, limit = self.entries, self.limit
            pause = self.LOOK
            if not entries & 1 or self._collecting >= 0:
                continue
            used = time.clock_gettime(self._clock) - self._excused
            if entries != seen:
                seen, since = entries, used
            elif used - since >= limit:
                self._cut(seen)
                seen = -1
            else:
                pause = min(pause, max(self.CLOSE_LOOK, limit - (used - since)))

    def _cut(self, seen: int) -> None:
        """`fired` first, then look again: a call that begins meanwhile waits in `rearmed` and is not cut for another's time."""
        with self._lock:
            self.words[FIRED] = 1
            if self.entries == seen:
                self._interrupt(self.words[WIRE])

    def settle(self) -> None:
        """A cut that was due before is over now, and none comes before the next call."""
        with self._lock:
            pass

    def rearmed(self, arm: Callable[[], None]) -> None:
        with self._lock:
            self.words[FIRED] = 0
            arm()


def microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
