"""What plugins may ask for of a request's body, which else passes them by.

The law: nothing of a body is held or copied unless a plugin asks for it, and then within a bound that it names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.plugin.reply import Reply
    from shared.plugin.request import Request

# What a phase may answer once the body is here: the request pauses again when it is awaitable.
Then = Callable[["Request", bytes], "Reply | Awaitable[Reply | None] | None"]


class WholeBody:
    """A phase's answer: the request is held until its body is here in full, then `then` answers in the phase's place. A body of
    more than `limit` bytes is refused (413) without it."""

    __slots__ = ("limit", "then")

    def __init__(self, limit: int, then: Then) -> None:
        self.limit = limit
        self.then = then


class KeptBody:
    """The beginning of a body that goes on, for the log phase: `limit` bytes at most. `by`: who adds what goes by, where
    several could."""

    __slots__ = ("_left", "_pieces", "by", "limit")

    def __init__(self, limit: int) -> None:
        self.by: object = None
        self.limit = self._left = limit
        self._pieces: list[bytes] = []

    def widen(self, limit: int) -> None:
        """Another plugin wants more of it. Only before the first piece."""
        if limit > self.limit:
            self.limit = self._left = limit

    def add(self, data: bytes) -> None:
        if self._left and data:
            piece = data[: self._left]
            self._pieces.append(piece)
            self._left -= len(piece)

    @property
    def data(self) -> bytes:
        return b"".join(self._pieces)
