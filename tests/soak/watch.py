"""What a worker holds while the soak goes on: memory, files, tasks, connections; and whether that grows.

The law: only workers that lived long enough to be warm are judged, by the medians of their first and last thirds, so that one
busy moment is no growth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

# Samples of a worker: fewer say nothing.
LEAST = 9
# Half a million requests that leak 10 bytes each are more.
MEMORY_GROWTH = 4 << 20
# Clients come and go between two looks.
FILE_GROWTH = 24
TASK_GROWTH = 8


@dataclass(frozen=True, slots=True)
class Sample:
    memory: int
    files: int
    tasks: int
    connections: int


@dataclass(slots=True)
class Watched:
    worker: int
    pid: int
    samples: list[Sample] = field(default_factory=list)

    def thirds(self, what: str) -> tuple[float, float]:
        third = len(self.samples) // 3
        values = [getattr(sample, what) for sample in self.samples]
        return median(values[:third] or values), median(values[-third:] or values)

    def grows(self) -> list[str]:
        if len(self.samples) < LEAST:
            return []
        bounds = (("memory", MEMORY_GROWTH), ("files", FILE_GROWTH), ("tasks", TASK_GROWTH))
        found = []
        for name, bound in bounds:
            first, last = self.thirds(name)
            if last - first > bound:
                found.append(f"worker {self.worker} (pid {self.pid}): {name} grew from {first:.0f} to {last:.0f}")
        return found


class Watch:
    def __init__(self) -> None:
        self.workers: dict[int, Watched] = {}

    def look(self, reports: Iterable[dict[str, Any]]) -> None:
        """`reports` are those of the control API."""
        for report in reports:
            pid = report["pid"]
            try:
                memory = _resident(pid)
                files = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue
            watched = self.workers.setdefault(pid, Watched(report["worker"], pid))
            watched.samples.append(Sample(memory, files, report["tasks"], report["connections"]))

    def forget_beginning(self) -> None:
        """They are warm now."""
        for watched in self.workers.values():
            watched.samples.clear()


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
