"""A process's place: who is in it, whether it lives and answers, and when the next one may come if nobody is."""

from __future__ import annotations

import os
import signal

from data_plane.observe.pulse import Pulse

# A process that lived this long is forgiven its crash.
FORGIVEN_AFTER_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
# Makes a process that does not answer say where it stands (faulthandler); soon after comes the one that nothing can ignore.
LAST_WORDS = signal.SIGUSR2
LAST_WORDS_SECONDS = 1.0

# The number of the process that shows what the workers do.
OBSERVER = 0


class Slot:
    """`beats` are those that were seen last, at `heard_at`. `end_by` is when a process that was asked to end is killed. While
    it `rests` its clients come to others, because its next process is a while away."""

    __slots__ = ("beats", "crashes", "end_by", "heard_at", "number", "pause", "pid", "pulse", "rests", "start_at", "started_at")

    def __init__(self, number: int, pulse: Pulse) -> None:
        self.number = number
        self.pulse = pulse
        self.pid = 0
        self.crashes = 0
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause = 0.0
        self.beats = 0
        self.heard_at = 0.0
        self.end_by = 0.0
        self.rests = False

    def __repr__(self) -> str:
        return f"<Slot {self.role} {self.number} pid={self.pid} {self.pulse!r}>"

    @property
    def role(self) -> str:
        return "observer" if self.number == OBSERVER else "worker"

    def named(self) -> dict[str, int]:
        return {} if self.number == OBSERVER else {"worker": self.number}

    def starting(self, now: float) -> None:
        self.pulse.begin()
        self.started_at = self.heard_at = now
        self.beats = self.pulse.beats
        self.end_by = 0.0

    def ended(self, now: float) -> float:
        """Its process is gone; returns the pause before the next one."""
        self.pid = 0
        self.crashes += 1
        self.pulse.begin()
        pause = 0.0 if now - self.started_at >= FORGIVEN_AFTER_SECONDS else self.pause
        self.pause = min(max(pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        self.start_at = now + pause
        return pause

    def silent_for(self, now: float) -> float:
        beats = self.pulse.beats
        if beats != self.beats:
            self.beats = beats
            self.heard_at = now
        return now - self.heard_at

    def abort(self, now: float) -> None:
        """It does not answer: let it say where it stands, and then end it."""
        self.end_by = now + LAST_WORDS_SECONDS
        os.kill(self.pid, LAST_WORDS)

    def ask_to_end(self, by: float) -> None:
        self.end_by = by
        os.kill(self.pid, signal.SIGTERM)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
