"""What a worker offers to native plugins beyond the request.

The law: a plugin gets its host once, by `Plugin.attach`, when a worker has compiled it, and never at the control plane: what
`__init__` does has to do without. Each member is there for the whole life of the worker.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from shared.plugin.consumer import ConsumerTable
from shared.plugin.counters import Counters
from shared.plugin.metrics import Metrics
from shared.plugin.responses import Zone
from shared.unavailable import Unavailable


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a call. `headers` in order, names as they came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class FetchFailed(Unavailable):
    """No answer has come; the message says why, and names no secret."""


class Host(Protocol):
    """`counters` are shared by all workers of the host, `metrics` are summed over them."""

    @property
    def counters(self) -> Counters: ...

    @property
    def metrics(self) -> Metrics: ...

    def consumers(self, plugin: str) -> ConsumerTable:
        """The consumers that tell the plugin of this name something: always the same table, which follows the configuration."""

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        seconds: float = 60.0,
        verify: bool = True,
        max_body: int = 1024 * 1024,
    ) -> Fetched:
        """One HTTP call over connections that are kept; `seconds` are for all of it, `max_body` in bytes for the
        answer's body, `verify` for the certificate of an https URL. Raises FetchFailed."""

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the requests. When the worker ends it is cancelled, and may take a moment for what is left to do."""

    def upstream(self, upstream_id: str) -> object | None:
        """An upstream of the configuration as it is now, for `Request.set_upstream`."""

    def zone(self, strategy: Literal["disk", "memory"], name: str) -> Zone:
        """Where responses are kept, the same for all who name it."""

    def failed(self, plugin: str, error: BaseException) -> None:
        """For the log: what a plugin does beside requests has failed."""
