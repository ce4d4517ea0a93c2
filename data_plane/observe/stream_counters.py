"""What one worker has done with TCP connections since it started, as plain numbers.

The law: as for requests (counters.py): counting is an attribute increment. Bytes are added when a session ends.
"""

from __future__ import annotations


class StreamCounters:
    """`refused`: no route, too many, or no TLS where it is due; `aborted`: no node connects, or a plugin failed; `timeouts`:
    idle, or a peer that does not read."""

    __slots__ = (
        "aborted",
        "bytes_received",
        "bytes_sent",
        "refused",
        "resets",
        "sessions",
        "timeouts",
        "upstream_errors",
        "upstream_retries",
    )

    def __init__(self) -> None:
        self.sessions = 0
        self.refused = 0
        self.aborted = 0
        self.resets = 0
        self.timeouts = 0
        self.upstream_errors = 0
        self.upstream_retries = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    def statistics(self) -> dict[str, int]:
        return {f"stream_{name}": getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"<StreamCounters {self.statistics()}>"
