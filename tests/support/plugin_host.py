"""A host for native plugins that only records: calls answer what a test says, work beside requests runs when it says so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from data_plane.config.consumer_index import ConsumerIndex, Table
from shared.limits.rows import MemoryRows
from shared.plugin.counters import Counters
from shared.plugin.host import Fetched, FetchFailed
from shared.plugin.responses import Zone


class MemoryZone:
    """Without a bound, and nothing goes by itself."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: bytes, row: bytes) -> bool:
        self.rows[key] = row
        return True

    def purge(self, prefix: bytes) -> int:
        found = [key for key in self.rows if key.startswith(prefix)]
        for key in found:
            del self.rows[key]
        return len(found)


class RecordedMetrics:
    """`series`: what was added to each, by family and labels."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}

    def counter(self, family: str, labels: Mapping[str, str]) -> RecordedSeries:
        return RecordedSeries(self.series.setdefault((family, tuple(labels.items())), []))

    histogram = counter


class RecordedSeries:
    def __init__(self, values: list[int]) -> None:
        self._values = values

    def add(self, value: int) -> None:
        self._values.append(value)


class RecordingHost:
    """`answer` says what a call brings, or raises; `calls` are those made: (method, url, headers, body). `work` has what
    plugins want to run, by name, `failures` what has failed."""

    def __init__(self, answer: Callable[[str, str], Fetched] | None = None, counters: Counters | None = None) -> None:
        self.index = ConsumerIndex()
        self.calls: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]] = []
        self.work: list[tuple[str, Coroutine[Any, Any, None]]] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.upstreams: dict[str, object] = {}
        self.zones: dict[tuple[str, str], Zone] = {}
        self.metrics = RecordedMetrics()
        self._counters = counters or MemoryRows()
        self._answer = answer

    @property
    def counters(self) -> Counters:
        return self._counters

    def consumers(self, plugin: str) -> Table:
        return self.index.table(plugin)

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
        self.calls.append((method, url, tuple(headers), body))
        if self._answer is None:
            raise FetchFailed("cannot connect")
        return self._answer(method, url)

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.work.append((name, work))

    def upstream(self, upstream_id: str) -> object | None:
        return self.upstreams.get(upstream_id)

    def zone(self, strategy: str, name: str) -> Zone:
        return self.zones.setdefault((strategy, name), MemoryZone())

    def failed(self, plugin: str, error: BaseException) -> None:
        # A traceback holds on to whatever was there.
        self.failures.append((plugin, error.with_traceback(None)))

    def close(self) -> None:
        for _, work in self.work:
            work.close()
