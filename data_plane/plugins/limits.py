"""The counters of limits, opened when the first plugin asks for them: a worker without limits takes no memory for them.

The law: where they cannot be had nothing is counted, and every plugin that counts hears why.
"""

from __future__ import annotations

from typing import NoReturn

import structlog

from shared.limits.rows import LimitsFailed, Step
from shared.plugin.counters import Counters
from shared.proxy_wasm.state.directory import HostStateError
from shared.proxy_wasm.state.host_state import HostState
from shared.proxy_wasm.state.limits import LimitRows

log = structlog.get_logger("limits")


class NoRows:
    """In the place of rows that cannot be kept."""

    worker = 0

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def change(self, key: bytes, step: Step[object]) -> NoReturn:
        raise LimitsFailed(self._reason)

    def is_alive(self, worker: int) -> bool:
        return False


class HostLimits:
    """`state` None: there is no memory that workers share."""

    def __init__(self, state: HostState | None) -> None:
        self._state = state
        self._rows: LimitRows | NoRows | None = None

    def rows(self) -> Counters:
        if self._rows is None:
            self._rows = self._opened()
        return self._rows

    def _opened(self) -> LimitRows | NoRows:
        try:
            if self._state is None:
                raise HostStateError("workers of this host share no memory")
            return LimitRows(self._state.environment.directory, self._state.worker)
        except HostStateError as error:
            log.error("requests cannot be counted for limits", reason=str(error))
            return NoRows(str(error))

    def close(self) -> None:
        rows, self._rows = self._rows, None
        if isinstance(rows, LimitRows):
            rows.close()
