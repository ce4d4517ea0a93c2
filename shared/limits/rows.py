"""Rows of numbers that count what keys do, whoever chooses the keys: their contract, and the one that a lone process uses.

The law: a row begins with the time at which it is worth nothing any more, so every key is forgotten in the end. What happens to
a row is a *step*: it sees the row (None: there is none, or none that counts) and the time, and says what the row is from now
on, without waiting and without looking at anything else, so it can run inside a transaction.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import Final, Protocol, TypeVar

from shared.unavailable import Unavailable

T = TypeVar("T")

# Monotonic seconds, the same for all processes of a host.
EXPIRY: Final = Struct("<d")
NEVER: Final = math.inf
GONE: Final = b""

# What a row becomes (None: what it was; GONE: nothing), and the answer.
Step = Callable[[bytes | None, float], tuple[bytes | None, T]]

# Longer keys are known by their digest: LMDB takes 511 bytes.
_LONGEST_KEY = 200
_DIGEST_BYTES = 20


class LimitsFailed(Unavailable):
    """The rows cannot be used; nothing was counted."""


class Rows(Protocol):
    def change(self, key: bytes, step: Step[T]) -> T:
        """Raises LimitsFailed."""

    def is_alive(self, worker: int) -> bool:
        """Of a worker whose number stands in a row."""

    @property
    def worker(self) -> int:
        """This one's number."""


class MemoryRows:
    """For one process. `clock` tells seconds."""

    worker = 1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._clock = clock

    def change(self, key: bytes, step: Step[T]) -> T:
        after, answer = step(self.rows.get(key), self._clock())
        if after == GONE:
            self.rows.pop(key, None)
        elif after is not None:
            self.rows[key] = after
        return answer

    def is_alive(self, worker: int) -> bool:
        return worker == self.worker


def prefix_of(*parts: str) -> bytes:
    """What the keys of one owner begin with; parts are kept apart."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()


def row_key(prefix: bytes, name: str) -> bytes:
    data = name.encode("utf-8", "surrogateescape")
    if len(data) <= _LONGEST_KEY:
        return prefix + b"=" + data
    return prefix + b"#" + blake2b(data, digest_size=_DIGEST_BYTES).digest()
