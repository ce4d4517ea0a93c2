"""Windows, buckets and gauges as transcripts: at a time, a step, its answer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.limits.bucket import LeakyBucket
from shared.limits.gauge import Gauge, shares
from shared.limits.rows import GONE, MemoryRows, Step, prefix_of, row_key
from shared.limits.windows import FixedWindow, SlidingWindow


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class At:
    """Rows whose time the test tells."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.rows = MemoryRows(self.clock)

    def __call__(self, seconds: float, step: Step[object]) -> object:
        self.clock.now = 1000.0 + seconds
        return self.rows.change(b"key", step)


def test_a_fixed_window_begins_with_the_first_request_and_ends_after_its_time() -> None:
    at, window = At(), FixedWindow(2, 10)
    assert at(0, window.take) == (1, 10)
    assert at(4, window.take) == (0, 6)
    assert at(5, window.take) == (-1, 5)
    assert at(9.5, window.take) == (-1, 0.5)
    assert at(10, window.take) == (1, 10)


def test_a_sliding_window_counts_the_part_of_the_last_one_that_it_covers() -> None:
    at, window = At(), SlidingWindow(4, 10)
    assert [at(8, window.take) for _ in range(5)] == [(3, 2), (2, 2), (1, 2), (0, 2), (-1, 2)]
    # At the beginning of the next all four are still in sight; after 2.5 seconds one is not.
    assert at(10, window.take) == (-1, 2.5)
    assert at(12.5, window.take) == (0, 7.5)
    assert at(13, window.take) == (-1, 2)
    assert at(40, window.take) == (3, 10)


def test_a_leaky_bucket_delays_what_comes_too_early_and_refuses_what_has_no_room() -> None:
    at, bucket = At(), LeakyBucket(2, 2)
    assert at(0, bucket.add) == 0
    assert at(0, bucket.add) == 0.5
    assert at(0, bucket.add) == 1.0
    assert at(0, bucket.add) is None
    assert at(0.5, bucket.add) == 1.0
    assert at(10, bucket.add) == 0


def test_a_bucket_without_room_lets_pass_what_comes_evenly() -> None:
    at, bucket = At(), LeakyBucket(1, 0)
    assert [at(second, bucket.add) for second in (0, 0.5, 1, 1.9, 2)] == [0, None, 0, None, 0]


def test_a_gauge_forgets_the_workers_that_have_died() -> None:
    living = {1, 2}
    one, two = (Gauge(3, worker, living.__contains__) for worker in (1, 2))
    at = At()
    assert [at(0, one.enter), at(0, two.enter), at(0, two.enter)] == [1, 2, 3]
    assert at(0, one.enter) is None
    assert at(0, two.leave) == 2
    assert at(0, one.enter) == 3
    living.remove(2)
    assert shares(at.rows.rows[b"key"]) == {1: 2, 2: 1}
    assert at(0, one.enter) == 3
    assert [at(0, one.leave) for _ in range(3)] == [2, 1, 0]
    assert not at.rows.rows


def test_whoever_leaves_what_is_gone_changes_nothing() -> None:
    assert Gauge(3, 1, lambda worker: True).leave(None, 0) == (GONE, 0)


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 5), st.integers(1, 8))
def test_no_window_of_a_fixed_limit_lets_more_through(gaps: list[float], count: int, seconds: int) -> None:
    at, window, now = At(), FixedWindow(count, seconds), 0.0
    began, passed = -100.0, 0
    for gap in gaps:
        now += gap
        taken = at(now, window.take)
        assert isinstance(taken, tuple)
        assert 0 < taken[1] <= seconds + 1e-6
        if taken[0] >= 0:
            if at.clock.now >= began + seconds:
                began, passed = at.clock.now, 0
            passed += 1
            assert passed <= count


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.2, 5), st.floats(0, 4))
def test_what_a_bucket_lets_through_leaves_it_evenly(gaps: list[float], rate: float, burst: float) -> None:
    at, bucket, now = At(), LeakyBucket(rate, burst), 0.0
    turns: list[float] = []
    for gap in gaps:
        now += gap
        delay = at(now, bucket.add)
        if isinstance(delay, float):
            assert 0 <= delay <= burst / rate + 1e-6
            turns.append(at.clock.now + delay)
    assert all(after - before >= 1 / rate - 1e-6 for before, after in pairwise(turns))


def test_keys_keep_their_parts_apart_and_short() -> None:
    assert prefix_of("a", "bc") != prefix_of("ab", "c")
    assert row_key(b"p", "x" * 1000) != row_key(b"p", "x" * 1001)
    assert len(row_key(prefix_of("a"), "x" * 100_000)) < 100
    assert row_key(b"p", "\udcff") == b"p=\xff"
