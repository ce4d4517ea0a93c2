"""How long a piece of work waits for its store, all its calls together.

The law: a call takes no longer than what is left, and one that comes when nothing is left is StoreUnavailable; calls at the
same time are waited for once. Work without a bound has that of each single call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from shared.store.contract import StoreUnavailable


class _Patience:
    __slots__ = ("_calls", "_left", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._calls = 0
        self._since = 0.0

    def begin(self) -> float:
        """Seconds for one call."""
        now = monotonic()
        if not self._calls:
            self._since = now
        left = self._left - (now - self._since)
        if left <= 0:
            raise StoreUnavailable(f"no answer within {self._seconds:g} s")
        self._calls += 1
        return left

    def end(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._left -= monotonic() - self._since


_patience: ContextVar[_Patience | None] = ContextVar("store_patience", default=None)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """What is done here waits for the store no longer than this."""
    token = _patience.set(_Patience(seconds))
    try:
        yield
    finally:
        _patience.reset(token)


@contextmanager
def waiting(most: float) -> Iterator[float]:
    """Around one call of at most so many seconds: how long it may take. Raises StoreUnavailable."""
    found = _patience.get()
    if found is None:
        yield most
        return
    seconds = min(most, found.begin())
    try:
        yield seconds
    finally:
        found.end()
