"""The zones in which this host keeps responses, opened when the first plugin asks for one.

The law: a zone in memory lies with the host's shared state and goes with it; one on the disk outlives the gateway. Where a zone
cannot be had nothing is kept, and every plugin that asks hears why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn

import structlog

from shared.plugin.responses import Zone, ZoneFailed
from shared.proxy_wasm.state.directory import HostStateError
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.responses import ResponseZone
from shared.proxy_wasm.state.room import bytes_available

log = structlog.get_logger("cache")

# As APISIX's default configuration has them.
MEMORY_BYTES: Final = 50 << 20
DISK_BYTES: Final = 1 << 30
# Others need memory, too.
_SHARE_OF_MEMORY: Final = 0.25
_MIN_BYTES: Final = 1 << 20


class NoZone:
    """In the place of one that cannot be used."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def get(self, key: bytes) -> NoReturn:
        raise ZoneFailed(self._reason)

    def put(self, key: bytes, row: bytes) -> NoReturn:
        raise ZoneFailed(self._reason)

    def purge(self, prefix: bytes) -> NoReturn:
        raise ZoneFailed(self._reason)


class HostResponses:
    """`state` None: there is no memory that workers share. `disk` is this gateway's folder for zones there."""

    def __init__(self, state: HostState | None, disk: Path) -> None:
        self._state = state
        self._disk = disk
        self._zones: dict[tuple[str, str], ResponseZone | NoZone] = {}

    def zone(self, strategy: str, name: str) -> Zone:
        found = self._zones.get((strategy, name))
        if found is None:
            found = self._zones[(strategy, name)] = self._opened(strategy, name)
        return found

    def _opened(self, strategy: str, name: str) -> ResponseZone | NoZone:
        try:
            if strategy == "disk":
                return ResponseZone(self._disk / f"{name}.mdb", DISK_BYTES)
            if self._state is None:
                raise HostStateError("workers of this host share no memory")
            path = self._state.environment.directory / f"responses-{name}.mdb"
            return ResponseZone(path, _size(path))
        except HostStateError as error:
            log.error("responses cannot be kept", zone=name, reason=str(error))
            return NoZone(str(error))

    def close(self) -> None:
        for zone in self._zones.values():
            if isinstance(zone, ResponseZone):
                zone.close()
        self._zones.clear()


def _size(path: Path) -> int:
    """Of a zone in memory."""
    available = bytes_available(path.parent)
    size = MEMORY_BYTES if available is None else min(MEMORY_BYTES, int(available * _SHARE_OF_MEMORY))
    if size < _MIN_BYTES:
        raise HostStateError(f"{path}: {available} bytes available, not enough to keep responses")
    return size // _MIN_BYTES * _MIN_BYTES
