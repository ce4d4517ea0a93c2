"""The state of a host as one reads it who is no worker: numbers summed over the workers, and what each says of itself.

The law: nothing is changed here. Workers write once a second, so what is read is so old at most; a sum never falls but when
its number did.
"""

from __future__ import annotations

from pathlib import Path

import lmdb

from shared.proxy_wasm.state.directory import LMDB_FILES, HostStateError, knock, pipe_path
from shared.proxy_wasm.state.environment import MAP_SIZE, Environment
from shared.proxy_wasm.state.health import read_rows
from shared.proxy_wasm.state.keys import U64, rows
from shared.proxy_wasm.state.metric_table import Metric, collect


class StateReader:
    """Raises HostStateError when the directory cannot be used, also later when the state cannot be read."""

    __slots__ = ("_directory", "_environment", "_file")

    def __init__(self, directory: Path, map_size: int = MAP_SIZE) -> None:
        self._directory = directory
        self._environment = Environment(directory, map_size)
        self._file = self._file_now()

    def is_current(self) -> bool:
        """False when the state was discarded, and maybe made anew: a reader of the old one would see it for ever."""
        return self._file == self._file_now()

    def _file_now(self) -> int:
        try:
            return (self._directory / LMDB_FILES[0]).stat().st_ino
        except OSError:
            return 0

    def plugin_metrics(self) -> list[Metric]:
        """What plugins have defined."""
        return self._collect(self._environment.tables.metrics)

    def gateway_metrics(self) -> list[Metric]:
        return self._collect(self._environment.tables.gateway)

    def _collect(self, table: lmdb._Database) -> list[Metric]:
        try:
            return collect(self._environment, table)
        except lmdb.Error as error:
            raise HostStateError(f"{self._directory}: cannot be read: {error}") from error

    def reports(self) -> list[bytes]:
        """Of the workers that live, in the order in which they came."""
        try:
            with self._environment.read() as txn:
                found = list(rows(txn, self._environment.tables.reports))
        except lmdb.Error as error:
            raise HostStateError(f"{self._directory}: cannot be read: {error}") from error
        return [report for key, report in found if knock(pipe_path(self._directory, U64.unpack(key)[0]))]

    def health(self) -> dict[bytes, bytes]:
        """The verdicts on nodes of upstreams, as their watchers wrote them."""
        try:
            return read_rows(self._environment)
        except lmdb.Error as error:
            raise HostStateError(f"{self._directory}: cannot be read: {error}") from error

    def bytes_used(self) -> tuple[int, int]:
        """What the state takes, and what it may."""
        counts = self._environment.statistics()
        return int(counts["bytes"]), int(counts["bytes_limit"])

    def close(self) -> None:
        self._environment.release_dead_readers()
        self._environment.close()
