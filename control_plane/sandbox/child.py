"""The sandbox's own process: answers jobs from its one socket until that ends.

The law: it has no key, no store and no network to reach; it runs one job at a time. When the machine is short of memory it is
the first to go, and its end leaves no trace.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from control_plane.sandbox.job import Job
from control_plane.sandbox.trial import Trials, Unknown
from control_plane.sandbox.wire import pack, unpack

# The kernel's greatest: kill this one first.
OOM_SCORE = "1000"
# A third of the share of a worker on the same processor: compiling should not cost requests much.
NICENESS = 5


def serve(connection: socket.socket) -> None:
    """Until the other side closes."""
    trials = Trials()
    stream = connection.makefile("rb")

    def read(size: int) -> bytes:
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    connection.sendall(b"".join(pack({"ready": True})))
    with contextlib.suppress(EOFError):
        while True:
            document, data = unpack(read)
            connection.sendall(b"".join(pack(_answer(trials, Job.of(document), data))))


def _answer(trials: Trials, job: Job, data: bytes) -> dict[str, object]:
    try:
        refusal = trials.run(job, data)
    except Unknown:
        return {"needs_module": True}
    return {"refusal": None if refusal is None else asdict(refusal)}


def main(descriptor: int) -> None:
    # The terminal's Ctrl-C is meant for the control plane, which closes the socket when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    with socket.socket(fileno=descriptor) as connection:
        serve(connection)


if __name__ == "__main__":
    main(int(sys.argv[1]))
