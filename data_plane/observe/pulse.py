"""What a supervisor and its processes know of each other at any moment, in memory that they share.

The law: a process writes its own cell and nobody else's, the supervisor alone says that all are stopping. Beating costs no
system call, and what is read is never older than the moment: no pipe that fills, no file that is stale.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from struct import Struct

# Two generations of workers and observers, and those before them that still drain.
MOST_CELLS = 8192
# How often a process beats when its event loop turns.
BEAT_SECONDS = 1.0

_BEATS = Struct("=Q")
_CELL_BYTES = 16
_STATE = 8
_STALE = 9


class State(IntEnum):
    """`SERVING`: it answers, but has no configuration yet. `SHORT`: it refuses new connections, for want of memory."""

    STARTING = 0
    SERVING = 1
    READY = 2
    SHORT = 3


class Pulse:
    """One process's cell."""

    __slots__ = ("_memory", "_offset")

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset

    def __repr__(self) -> str:
        return f"<Pulse {self.state.name} beats={self.beats}>"

    @property
    def beats(self) -> int:
        beats: int = _BEATS.unpack_from(self._memory, self._offset)[0]
        return beats

    def beat(self) -> None:
        _BEATS.pack_into(self._memory, self._offset, self.beats + 1)

    @property
    def state(self) -> State:
        return State(self._memory[self._offset + _STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._memory[self._offset + _STATE] = state

    @property
    def is_stale(self) -> bool:
        """It serves the configuration that was kept on disk."""
        return bool(self._memory[self._offset + _STALE])

    @is_stale.setter
    def is_stale(self, stale: bool) -> None:
        self._memory[self._offset + _STALE] = stale

    def begin(self) -> None:
        """For the next process in this cell; its beats go on from those of the one before."""
        self.state = State.STARTING
        self.is_stale = False


class Pulses:
    """Made by the supervisor before it forks; a cell that was released is used again."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _CELL_BYTES * (MOST_CELLS + 1))
        self._free = list(range(MOST_CELLS * _CELL_BYTES, 0, -_CELL_BYTES))

    @property
    def stopping(self) -> bool:
        return bool(self._memory[0])

    def stop(self) -> None:
        self._memory[0] = 1

    def take(self) -> Pulse:
        pulse = Pulse(self._memory, self._free.pop())
        pulse.begin()
        return pulse

    def release(self, pulse: Pulse) -> None:
        self._free.append(pulse._offset)
