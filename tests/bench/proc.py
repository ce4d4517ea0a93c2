"""What the kernel knows about a process and its children: CPU time used, memory held.

The law: a figure covers the whole tree below a pid, so that a supervisor hides no cost of its worker; a tree that
changed between two readings gives no figure.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.errors import BenchError

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Counted from the field after the command's name, which is the state: see proc_pid_stat(5).
PARENT, USER_TICKS, SYSTEM_TICKS = 1, 11, 12
KIB = 1024


def cpu_seconds(pid: int) -> dict[int, float]:
    """User and system time of each process in the tree."""
    return {member: _cpu_seconds(member) for member in tree(pid)}


def cpu_between(before: dict[int, float], after: dict[int, float]) -> float:
    if before.keys() != after.keys():
        raise BenchError(f"processes came or went while measuring: {sorted(before)} before, {sorted(after)} after")
    return sum(after.values()) - sum(before.values())


def resident_bytes(pid: int) -> int:
    """Resident memory of the process in the tree that holds most of it: the worker, where there is a supervisor."""
    return max(_resident_bytes(member) for member in tree(pid))


def tree(pid: int) -> set[int]:
    """The process and all its descendants."""
    parents = _parents()
    members = {pid}
    while found := {child for child, parent in parents.items() if parent in members} - members:
        members |= found
    return members


def _parents() -> dict[int, int]:
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[PARENT])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return parents


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])) / TICKS_PER_SECOND


def _stat(pid: int) -> list[str]:
    # The name stands in parentheses and may contain anything, parentheses too.
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()


def _resident_bytes(pid: int) -> int:
    for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * KIB
    return 0
