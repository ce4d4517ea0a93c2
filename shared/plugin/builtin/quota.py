"""One limit of limit-count: whose it is, how much passes, and how a response says what is left.

The law: numbers that a request decides are whole and from 1 on, or the request has no such limit.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from os.path import commonprefix

from shared.limits.rows import Step
from shared.limits.windows import FixedWindow, SlidingWindow, Taken
from shared.plugin.request import Request, Response
from shared.plugin.template import Template, compile_template
from shared.schema.common import MAX_INT

KeyOf = Callable[[Request], str | None]
_WINDOWS: dict[str, type[FixedWindow | SlidingWindow]] = {"fixed": FixedWindow, "sliding": SlidingWindow}


class Quota:
    """`take` is the step of a limit that is the same for all requests, and `count` how many pass; else `take` is None."""

    __slots__ = ("_begins", "_line", "_names", "_numbers", "_window", "count", "key", "seconds", "take")

    def __init__(self, key: KeyOf, count: int | str, window: int | str, kind: str, names: tuple[str, str, str]) -> None:
        """`key` answers None for a request that the limit is not for. Raises ValueError."""
        self.key = key
        self._window = _WINDOWS[kind]
        self._numbers = (_template(count), _template(window))
        self._names = names
        # Where none of them can be.
        self._begins = commonprefix([f"\r\n{name.lower()}:" for name in names]).encode()  # noqa: RUF071 - characters are meant
        self._line = "".join(f"{name}: %d\r\n" for name in names).encode()
        self.count, self.seconds = (_whole(number.constant or "") for number in self._numbers)
        self.take: Step[Taken] | None = self.step(self.count, self.seconds) if self.count and self.seconds else None

    def numbers(self, request: Request) -> tuple[int, int] | None:
        """Count and seconds."""
        count, seconds = (_whole(number.render(request)) for number in self._numbers)
        return (count, seconds) if count and seconds else None

    def step(self, count: int, seconds: int) -> Step[Taken]:
        return self._window(count, seconds).take

    def show(self, response: Response, count: int, taken: Taken) -> None:
        """In the place of what the upstream may say of its own."""
        remaining, seconds = taken
        numbers = (count, remaining if remaining > 0 else 0, ceil(seconds))
        raw = response.raw
        if self._begins not in raw.lower():
            response.raw = raw + self._line % numbers
            return
        for name, number in zip(self._names, numbers, strict=True):
            response.set_header(name, str(number))


def _template(value: int | str) -> Template:
    template = compile_template(str(value))
    if template.constant is not None and not _whole(template.constant):
        raise ValueError(f"expected a whole number from 1 to {MAX_INT} or a variable, got {value!r}")
    return template


def _whole(value: str) -> int:
    """0 for what is none."""
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else 0
    return number if number <= MAX_INT else 0
