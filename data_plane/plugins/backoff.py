"""How long a plugin that failed is left alone before it is started again."""

from __future__ import annotations

import random

# Envoy's base for reloading a plugin is a second; the first failure is retried sooner, since most are a single bad request.
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0
# A plugin that ran this long without failing is forgiven.
FORGIVEN_AFTER_SECONDS = 60.0


class Backoff:
    """Doubles with every failure, with jitter so that workers do not start together."""

    __slots__ = ("_failed_at", "_pause", "_until")

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = 0.0
        self._failed_at = 0.0

    def waits(self, now: float) -> bool:
        return now < self._until

    def failed(self, now: float) -> None:
        if now - self._failed_at > FORGIVEN_AFTER_SECONDS:
            self._pause = 0.0
        self._failed_at = now
        self._pause = min(self._pause * 2 or FIRST_SECONDS, LONGEST_SECONDS)
        self._until = now + self._pause * random.uniform(0.75, 1.25)

    def succeeded(self) -> None:
        self._pause = self._until = 0.0
