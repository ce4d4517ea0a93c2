"""How long a plugin that failed is left alone before it is started again, with jitter so that workers do not start together."""

from __future__ import annotations

import random

from data_plane.config.snapshot import FailurePolicy

# Envoy's base for reloading a plugin is a second; the first failure is retried sooner, since most are a single bad request.
FIRST_SECONDS = 0.1
LONGEST_SECONDS = 30.0
# A plugin that ran this long without failing is forgiven.
FORGIVEN_AFTER_SECONDS = 60.0
# Envoy's: between two starts of a plugin with the policy fail_reload, with up to half of it more as jitter.
RELOAD_SECONDS = 1.0


class Backoff:
    """Doubles with every failure."""

    __slots__ = ("_failed_at", "_pause", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._pause = 0.0
        self._failed_at = 0.0

    @property
    def has_failed(self) -> bool:
        """And not succeeded since."""
        return self.until > 0

    def waits(self, now: float) -> bool:
        return now < self.until

    def started(self, now: float) -> None:
        """It runs; whether it will do so for long is not known."""

    def failed(self, now: float) -> None:
        if now - self._failed_at > FORGIVEN_AFTER_SECONDS:
            self._pause = 0.0
        self._failed_at = now
        self._pause = min(self._pause * 2 or FIRST_SECONDS, LONGEST_SECONDS)
        self.until = now + self._pause * random.uniform(0.75, 1.25)

    def succeeded(self) -> None:
        self._pause = self.until = 0.0


class ReloadBackoff(Backoff):
    """fail_reload: so long after the last start, whatever came between; what does not even start waits as all others do."""

    __slots__ = ("_started_at",)

    def __init__(self) -> None:
        super().__init__()
        self._started_at: float | None = None

    def started(self, now: float) -> None:
        self._started_at = now

    def failed(self, now: float) -> None:
        started_at, self._started_at = self._started_at, None
        if started_at is None:
            super().failed(now)
        else:
            self.until = started_at + RELOAD_SECONDS * random.uniform(1.0, 1.5)


def backoff_of(policy: FailurePolicy) -> Backoff:
    return ReloadBackoff() if policy == "fail_reload" else Backoff()
