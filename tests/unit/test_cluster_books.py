"""The judge of `make test-cluster`: what it excuses, and what it does not."""

from __future__ import annotations

import pytest

from tests.cluster.books import NOTICED_SECONDS, books, excuses, table
from tests.cluster.faults import Cost
from tests.cluster.load import Request
from tests.cluster.steps import Step

# Hurt from 11 to 12.
STEP = {"name": "a step", "began": 10.0, "hurt_began": 11.0, "hurt_ended": 12.0, "ended": 20.0}


def step(cost: Cost) -> Step:
    return Step(**STEP, cost=cost)  # type: ignore[arg-type]


def failed(method: str, began: float, ended: float) -> Request:
    return Request(method, began, ended, "502")


@pytest.mark.parametrize(
    ("cost", "request_", "excused"),
    [
        (Cost.NONE, failed("POST", 11, 12), False),
        (Cost.IN_FLIGHT, failed("GET", 10, 11.5), True),
        (Cost.IN_FLIGHT, failed("POST", 11.9, 40), True),
        (Cost.IN_FLIGHT, failed("POST", 12.1, 13), False),
        (Cost.IN_FLIGHT, failed("POST", 10, 10.9), False),
        (Cost.UNTIL_NOTICED, failed("POST", 12 + NOTICED_SECONDS, 30), True),
        (Cost.UNTIL_NOTICED, failed("POST", 12.1 + NOTICED_SECONDS, 30), False),
        (Cost.UNTIL_NOTICED, failed("GET", 11, 12), False),
        (Cost.THE_DOOR, failed("GET", 15, 15), True),
        (Cost.THE_DOOR, failed("GET", 10, 10.5), False),
    ],
)
def test_what_is_excused(cost: Cost, request_: Request, excused: bool) -> None:
    assert excuses(step(cost), request_) is excused


def test_a_request_is_in_the_books_of_the_step_in_which_it_began() -> None:
    steps = [step(Cost.IN_FLIGHT), Step("another", 20.0, hurt_began=21.0, hurt_ended=22.0, ended=30.0, after=(0.1, 0.25))]
    rows = books(steps, [failed("GET", 11, 25), Request("GET", 12, 15, ""), failed("POST", 20, 21), failed("GET", 9, 9)])
    assert [(row.requests, len(row.failed), row.excused, row.slowest) for row in rows] == [(2, 0, 1, 3), (1, 1, 0, 0)]
    assert table(rows).splitlines()[2:] == [
        "| a step | 2 | 0 | 1 | 3.00 s |  |  |",
        "| another | 1 | 1 | 0 | 0.00 s |  | 0.1 + 0.2 s |",
        "| all | 3 | 1 | 1 | | | |",
    ]
