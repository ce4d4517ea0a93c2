"""Memory that is given back stays with the process, so that taking it again costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

# Blocks that glibc would return to the system and take anew each time.
PROGRAM = """
import resource, sys
from data_plane.process.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def turn():
    return [bytes(65536) for _ in range(64)]
for _ in range(10):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_what_was_freed_is_taken_again_without_the_system() -> None:
    if platform.libc_ver()[0] != "glibc":
        assert faults("as it is") >= 0
        return
    assert faults("as it is") > 10_000
    assert faults("kept") < 1_000
