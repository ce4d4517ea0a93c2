"""How work in steps shares the loop with requests.

The law: no request waits longer than a slice for it. Work that needs more than one slice rests as long after each, so that it
takes half of the worker at most, and keeps the collector away meanwhile: it makes much that stays, and to look through 100,000
routes for cycles takes the collector half a second.
"""

from __future__ import annotations

import asyncio
import gc
from time import perf_counter
from typing import Generic, TypeVar

from data_plane.routing.steps import Steps

T = TypeVar("T")

# Steps take some ten microseconds; a slice is what a handful of requests take, too.
SLICE_SECONDS = 0.002
# Work of so many slices makes some ten thousand objects.
FREEZES_FROM = 100


async def in_slices(steps: Steps[T], rest: float = SLICE_SECONDS) -> T:
    """What the work results in. Without `rest` nobody is served yet, but signals are heard."""
    work = _Work(steps)
    if work.goes_on():
        collects = gc.isenabled()
        gc.disable()
        try:
            while True:
                await asyncio.sleep(rest)
                if not work.goes_on():
                    break
        finally:
            if collects:
                gc.enable()
            if work.slices >= FREEZES_FROM:
                # Also from the collector's later looks: what is let go is freed without it. Not after every change, because
                # circles that are garbage by now would be kept for ever.
                if not rest:
                    gc.collect()
                gc.freeze()
    return work.result


class _Work(Generic[T]):
    __slots__ = ("_steps", "result", "slices")
    result: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self.slices = 0

    def goes_on(self) -> bool:
        """One slice of it; whether there is more."""
        self.slices += 1
        steps, until = self._steps, perf_counter() + SLICE_SECONDS
        try:
            while perf_counter() < until:
                next(steps)
        except StopIteration as end:
            self.result = end.value
            return False
        return True
