"""The processes that run with the same settings: so many workers, and the observer if there are pages.

The law: a crew never changes; other settings are another crew, which takes over when all its workers are ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_plane.observe.pulse import Pulse, Pulses, State
from data_plane.process.slot import OBSERVER, Slot

Work = Callable[[int, Pulse, bool], None]
Observe = Callable[[Pulse, list[tuple[int, Pulse]]], None]


@dataclass(frozen=True, slots=True)
class Orders:
    """What a crew does. `work(number, pulse, replaces)` is a worker until it ends; one that replaces another lets nobody in
    before it is ready. `observe(pulse, workers)` is the observer. `rest(number)` is told of a worker that will not be there for
    a while, `wake()` when one is started after that. Times are seconds; `stuck_after` 0 is never."""

    workers: int
    work: Work
    observe: Observe | None = None
    grace: float = 30.0
    drain_delay: float = 0.0
    stuck_after: float = 0.0
    rest: Callable[[int], None] = lambda number: None
    wake: Callable[[], None] = lambda: None


class Crew:
    def __init__(self, orders: Orders, pulses: Pulses, replaces: bool) -> None:
        self.orders = orders
        self.replaces = replaces
        self.workers = [Slot(number, pulses.take()) for number in range(1, orders.workers + 1)]
        self.observers = [] if orders.observe is None else [Slot(OBSERVER, pulses.take())]

    @property
    def slots(self) -> list[Slot]:
        return [*self.workers, *self.observers]

    def is_ready(self) -> bool:
        return all(slot.pulse.state == State.READY for slot in self.workers)

    def has_crashed(self) -> bool:
        return any(slot.crashes for slot in self.slots)

    def run(self, number: int) -> None:
        """In the child."""
        if number:
            self.orders.work(number, self.workers[number - 1].pulse, self.replaces)
        elif self.orders.observe is not None:
            workers = [(slot.number, slot.pulse) for slot in self.workers]
            self.orders.observe(self.observers[0].pulse, workers)
