"""What has become of a plugin in one worker, whatever VMs it had: numbers that only grow, and its last error.

The law: one for each name, for as long as the worker lives, so that a count never falls; kept by the slots, read by whoever
reports. Nothing of it is touched by a request that goes well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from shared.proxy_wasm.failures import VmFailed

# Of a reason, in a report: a guest may have chosen the text.
REASON_SHOWN = 500


@dataclass(frozen=True, slots=True)
class LastError:
    """`at` is Unix time; `code` is the failure's, or `refused`, `not_started`."""

    at: float
    code: str
    reason: str


class PluginRecord:
    """`cpu_seconds` is that of all VMs, as of when they were measured last."""

    __slots__ = ("cpu_seconds", "failures", "last_error", "log_lines_dropped", "name", "starts", "streams_cut")

    def __init__(self, name: str) -> None:
        self.name = name
        self.starts = 0
        self.failures = 0
        self.streams_cut = 0
        self.log_lines_dropped = 0
        self.cpu_seconds = 0.0
        self.last_error: LastError | None = None

    def failed(self, failure: VmFailed) -> None:
        self.failures += 1
        self.note(failure.code, str(failure))

    def note(self, code: str, reason: str) -> None:
        self.last_error = LastError(time.time(), code, reason[:REASON_SHOWN])
