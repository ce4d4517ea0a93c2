"""What one worker has done since it started, as plain numbers.

The law: counting is an attribute increment; whoever publishes the numbers reads them, nobody locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from data_plane.config.snapshot import Node, Route


class UpstreamErrors(Protocol):
    """Whoever wants to hear of each. `kind` is a key of exchange/replies.py."""

    def __call__(self, kind: str, route: Route | None, node: Node | None) -> None: ...


class Counters:
    """`responses` is indexed by the status, which has three digits."""

    __slots__ = (
        "client_aborts",
        "connections",
        "on_upstream_error",
        "requests",
        "responses",
        "upstream_errors",
        "upstream_retries",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.responses = [0] * 1000
        self.client_aborts = 0
        self.upstream_errors = 0
        self.upstream_retries = 0
        self.on_upstream_error: UpstreamErrors | None = None

    def upstream_error(self, kind: str, route: Route | None, node: Node | None) -> None:
        self.upstream_errors += 1
        if self.on_upstream_error is not None:
            self.on_upstream_error(kind, route, node)

    def statuses(self) -> dict[int, int]:
        """Responses by status, of those that there were."""
        return {status: count for status, count in enumerate(self.responses) if count}

    def statistics(self) -> dict[str, int]:
        classes = {f"responses_{d}xx": sum(self.responses[d * 100 : d * 100 + 100]) for d in range(1, 6)}
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
