"""Which requests failed, in which step, and which of them had to.

The law: a failure is excused by what a step hurt while its request was in flight, and by nothing else. A GET may be repeated by
the balancer and by the gateway, so silence excuses none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tests.cluster.faults import Cost
from tests.cluster.load import Request
from tests.cluster.steps import Step

# A probe every second that waits for one: a silent server is left out after this at the latest.
NOTICED_SECONDS = 4.0


@dataclass(slots=True)
class Row:
    step: Step
    requests: int = 0
    excused: int = 0
    slowest: float = 0.0
    failed: list[Request] = field(default_factory=list)


def excuses(step: Step, request: Request) -> bool:
    in_flight = request.began <= step.hurt_ended and request.ended >= step.hurt_began
    if step.cost is Cost.THE_DOOR:
        return step.hurt_began <= request.ended and request.began <= step.ended
    if step.cost is Cost.IN_FLIGHT:
        return in_flight
    if step.cost is Cost.UNTIL_NOTICED:
        return (
            request.method == "POST" and request.ended >= step.hurt_began and request.began <= step.hurt_ended + NOTICED_SECONDS
        )
    return False


def books(steps: Collection[Step], requests: Collection[Request]) -> list[Row]:
    """A row for each step, with what began in it."""
    rows = [Row(step) for step in steps]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        end = after.step.began if after else float("inf")
        for request in requests:
            if row.step.began <= request.began < end:
                _enter(row, request, steps)
    return rows


def _enter(row: Row, request: Request, steps: Collection[Step]) -> None:
    row.requests += 1
    if not request.failure:
        row.slowest = max(row.slowest, request.seconds)
    elif any(excuses(step, request) for step in steps):
        row.excused += 1
    else:
        row.failed.append(request)


def table(rows: Collection[Row]) -> str:
    """As it is kept in docs/cluster.md."""
    lines = [
        "| what happened | requests | failed | excused | slowest | change meanwhile | change after |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.step.name, str(row.requests), str(len(row.failed)), str(row.excused), f"{row.slowest:.2f} s"]
        lines.append(f"| {' | '.join([*cells, _seconds(row.step.during), _seconds(row.step.after)])} |")
    whole = [sum(row.requests for row in rows), sum(len(row.failed) for row in rows), sum(row.excused for row in rows)]
    return "\n".join([*lines, f"| all | {' | '.join(str(number) for number in whole)} | | | |"])


def _seconds(times: tuple[float, float] | None) -> str:
    """Until the change was taken, and then until every worker had it."""
    return "" if times is None else f"{times[0]:.1f} + {times[1]:.1f} s"
