"""The health of one node: four states and four counters, as in APISIX.

The law: a success forgets all failures and a failure forgets the successes; each kind of failure counts for itself, and the
first counter that reaches its limit decides. A node on its way down still takes traffic, one on its way up not yet.

| state            | event                  | next                                              |
|------------------|------------------------|---------------------------------------------------|
| HEALTHY          | success                | not counted                                       |
| HEALTHY          | failure                | MOSTLY_HEALTHY, at its limit UNHEALTHY            |
| MOSTLY_HEALTHY   | failure                | the same, at its limit UNHEALTHY                  |
| MOSTLY_HEALTHY   | success                | the same, at the limit HEALTHY                    |
| UNHEALTHY        | failure                | not counted                                       |
| UNHEALTHY        | success                | MOSTLY_UNHEALTHY, at the limit HEALTHY            |
| MOSTLY_UNHEALTHY | success                | the same, at the limit HEALTHY                    |
| MOSTLY_UNHEALTHY | failure                | the same, at its limit UNHEALTHY                  |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Counter(IntEnum):
    """In the order in which a row has them."""

    SUCCESS = 0
    TCP_FAILURE = 1
    HTTP_FAILURE = 2
    TIMEOUT_FAILURE = 3


class Health(IntEnum):
    """`name.lower()` is APISIX's name of it."""

    HEALTHY = 0
    MOSTLY_HEALTHY = 1
    MOSTLY_UNHEALTHY = 2
    UNHEALTHY = 3

    @property
    def takes_traffic(self) -> bool:
        return self <= Health.MOSTLY_HEALTHY


# From where a report of the other kind leads while its counter is below the limit.
_LEANING = {Health.HEALTHY: Health.MOSTLY_HEALTHY, Health.UNHEALTHY: Health.MOSTLY_UNHEALTHY}
_NOTHING = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Target:
    """`counts` are in the order of Counter."""

    health: Health = Health.HEALTHY
    counts: tuple[int, int, int, int] = _NOTHING

    def after(self, counter: Counter, limit: int) -> Target:
        """What it is after one more of these; itself when that changes nothing."""
        succeeded = counter is Counter.SUCCESS
        verdict = Health.HEALTHY if succeeded else Health.UNHEALTHY
        if self.health is verdict:
            return self
        counts = [0, 0, 0, 0] if succeeded else [0, *self.counts[1:]]
        counts[counter] = self.counts[counter] + 1
        health = verdict if counts[counter] >= limit else _LEANING.get(self.health, self.health)
        return Target(health, (counts[0], counts[1], counts[2], counts[3]))
