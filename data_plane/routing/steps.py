"""Work that is done in small steps, so that what has to answer requests can pause between two of them.

The law: between two steps nothing is half done that anybody else can see.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

# Its value is what the work results in.
Steps = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """All of it at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
