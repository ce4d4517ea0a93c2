from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from data_plane.http.timers import NEVER, Deadline


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is moved by hand, and which counts the timers that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.armed: list[tuple[float, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.armed.append((when, handle))
        return handle

    def move_to(self, now: float) -> None:
        self.now = now
        due = [entry for entry in self.armed if entry[0] <= now]
        for entry in due:
            self.armed.remove(entry)
            if not entry[1].cancelled():
                entry[1]._run()


def make() -> tuple[Clock, Deadline, list[float]]:
    clock = Clock()
    fired: list[float] = []
    deadline = Deadline(clock, lambda: fired.append(clock.now))
    return clock, deadline, fired


def test_it_expires_once() -> None:
    clock, deadline, fired = make()
    deadline.set(5)
    clock.move_to(4.9)
    assert fired == []
    clock.move_to(5)
    clock.move_to(50)
    assert fired == [5]
    clock.close()


def test_moving_it_on_sets_no_timer() -> None:
    clock, deadline, fired = make()
    for now in range(5):
        clock.now = now
        deadline.set(5)
    assert len(clock.armed) == 1
    clock.move_to(5)
    assert fired == []
    assert [when for when, _ in clock.armed] == [9]
    clock.move_to(9)
    assert fired == [9]
    clock.close()


def test_a_nearer_deadline_is_kept() -> None:
    clock, deadline, fired = make()
    deadline.set(60)
    deadline.set(1)
    clock.move_to(1)
    assert fired == [1]
    clock.close()


def test_a_cleared_deadline_does_not_expire_and_may_be_set_again() -> None:
    clock, deadline, fired = make()
    deadline.set(5)
    deadline.clear()
    clock.move_to(5)
    assert fired == []
    assert clock.armed == []
    deadline.set(5)
    clock.move_to(10)
    assert fired == [10]
    clock.close()


def test_closing_lets_go() -> None:
    clock, deadline, fired = make()
    deadline.set(5)
    deadline.close()
    assert deadline.when == NEVER
    clock.move_to(60)
    assert fired == []
    clock.close()
