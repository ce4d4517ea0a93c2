"""What one worker has done since it started, as plain numbers.

The law: counting is an attribute increment; whoever publishes the numbers reads them, nobody locks.
"""

from __future__ import annotations


class Counters:
    """`responses` is indexed by the first digit of the status."""

    __slots__ = ("client_aborts", "connections", "requests", "responses", "upstream_errors", "upstream_retries")

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.responses = [0] * 10
        self.client_aborts = 0
        self.upstream_errors = 0
        self.upstream_retries = 0

    def statistics(self) -> dict[str, int]:
        classes = {f"responses_{digit}xx": self.responses[digit] for digit in range(1, 6)}
        return {
            "connections": self.connections,
            "requests": self.requests,
            **classes,
            "client_aborts": self.client_aborts,
            "upstream_errors": self.upstream_errors,
            "upstream_retries": self.upstream_retries,
        }

    def __repr__(self) -> str:
        return f"<Counters {self.statistics()}>"
