"""api-breaker, as transcripts over rows in memory whose time the test tells."""

from __future__ import annotations

from typing import Any

import pytest

from shared.limits.rows import LimitsFailed, MemoryRows
from tests.support.native import Message, Native, refusal

EXAMPLE = {"break_response_code": 502, "unhealthy": {"http_statuses": [500, 503], "failures": 2}, "healthy": {"successes": 2}}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Guarded:
    """A route with a breaker."""

    def __init__(self, **more: Any) -> None:  # noqa: ANN401 - any configuration
        self.clock = Clock()
        self.native = Native({"api-breaker": {**EXAMPLE, **more}}, counters=MemoryRows(self.clock))

    def get(self, status: int, target: str = "/p", *fields: str) -> Message:
        """What the client gets when the upstream, if it is asked, answers with this status."""
        if self.native.request(target, *fields) is None:
            return self.native.answer
        return self.native.response(b"x", status=status)

    def statuses(self, *answers: int, target: str = "/p") -> list[int]:
        return [self.get(answer, target).status for answer in answers]


def test_it_breaks_for_longer_each_time() -> None:
    guarded = Guarded(max_breaker_sec=5)
    for seconds in (2, 4, 5, 5):
        assert guarded.statuses(500, 503, 200) == [500, 503, 502]
        guarded.clock.now += seconds - 0.1
        assert guarded.statuses(200) == [502]
        guarded.clock.now += 0.1


def test_good_answers_end_the_count() -> None:
    guarded = Guarded()
    assert guarded.statuses(500, 200, 500, 200) == [500, 200, 500, 502]
    guarded.clock.now += 2
    # It takes as many in a row as are asked for; then it begins anew, with two seconds.
    assert guarded.statuses(200, 200, 500, 500, 200) == [200, 200, 500, 500, 502]
    guarded.clock.now += 2
    assert guarded.statuses(404) == [404]


def test_a_bad_answer_begins_the_good_ones_anew() -> None:
    guarded = Guarded(healthy={"http_statuses": [200, 204], "successes": 2}, unhealthy={"failures": 4})
    assert guarded.statuses(500, 200, 500, 204, 500, 200, 500, 200) == [500, 200, 500, 204, 500, 200, 500, 502]


def test_other_paths_and_hosts_are_counted_apart() -> None:
    guarded = Guarded()
    assert guarded.statuses(500, 500, 500) == [500, 500, 502]
    assert guarded.statuses(500, 200, target="/q") == [500, 200]
    assert guarded.statuses(200, target="/p?a=1") == [502]


def test_what_no_upstream_said_does_not_count() -> None:
    limit = {"count": 1, "time_window": 60, "rejected_code": 500}
    native = Native({"api-breaker": EXAMPLE, "limit-count": limit}, counters=MemoryRows())
    assert native.passed().status == 200
    assert [native.reply().status for _ in range(4)] == [500] * 4


def test_an_upstream_that_cannot_be_reached_counts() -> None:
    guarded = Guarded(unhealthy={"http_statuses": [502], "failures": 1}, break_response_code=503)
    guarded.native.request(method="POST")
    guarded.native.exchange.upstream_lost("upstream_closed")
    assert guarded.native.answer.status == 502
    assert guarded.get(200).status == 503


def test_the_answer_is_what_the_configuration_says() -> None:
    guarded = Guarded(
        break_response_body='{"path":"$uri"}',
        break_response_headers=[{"key": "Content-Type", "value": "application/json"}, {"key": "X-By", "value": "$host"}],
        unhealthy={"failures": 1},
    )
    guarded.get(500)
    answer = guarded.get(200)
    assert (answer.status, answer.body, answer["content-type"], answer["x-by"]) == (
        502,
        b'{"path":"/p"}',
        "application/json",
        "t",
    )


def test_time_ends_the_count() -> None:
    guarded = Guarded(max_breaker_sec=10)
    guarded.get(500)
    guarded.clock.now += 21
    assert guarded.statuses(500, 200) == [500, 200]


def test_without_counters_nothing_breaks() -> None:
    class Broken(MemoryRows):
        def change(self, key: bytes, step: object) -> Any:  # noqa: ANN401 - never returns
            raise LimitsFailed("no memory")

    native = Native({"api-breaker": {**EXAMPLE, "unhealthy": {"failures": 1}}}, counters=Broken())
    assert [native.passed(status=500).status for _ in range(3)] == [500] * 3
    assert native.host.failures


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({}, 'property "break_response_code" is required'),
        ({"break_response_code": 600}, "at most 599"),
        ({"break_response_code": 502, "max_breaker_sec": 2}, "at least 3"),
        ({"break_response_code": 502, "unhealthy": {"http_statuses": [404]}}, "at least 500"),
        ({"break_response_code": 502, "unhealthy": {"http_statuses": []}}, "http_statuses"),
        ({"break_response_code": 502, "unhealthy": {"http_statuses": [500, 500]}}, "http_statuses"),
        ({"break_response_code": 502, "healthy": {"http_statuses": [500]}}, "at most 499"),
        ({"break_response_code": 502, "healthy": {"successes": 0}}, "at least 1"),
        (
            {"break_response_code": 502, "break_response_headers": [{"key": "Connection", "value": "x"}]},
            "gateway itself decides",
        ),
        ({"break_response_code": 502, "break_response_body": "$nothing_known"}, "nothing_known"),
    ],
    ids=str,
)
def test_what_breaks_nothing_is_refused(conf: dict[str, Any], reason: str) -> None:
    assert reason in refusal("api-breaker", conf)
