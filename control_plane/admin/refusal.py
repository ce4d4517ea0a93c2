"""What is wrong with several writes at once: each mistake with the number of the operation that made it.

The law: all operations are looked at before the first mistake is told; of one operation alone its own error is told as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from control_plane.errors import AdminError, refusal_of
from shared.proxy_wasm.binary import ModuleError
from shared.schema.errors import SchemaError

T = TypeVar("T")
R = TypeVar("R")

# What a write may be refused with. Anything else is nobody's mistake and ends the round.
MISTAKES = (AdminError, SchemaError, ModuleError)


class Mistakes:
    """Of one round."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[tuple[int, Exception]] = []

    @contextmanager
    def of(self, number: int) -> Iterator[None]:
        """What is raised inside is kept as a mistake of that operation."""
        try:
            yield
        except MISTAKES as error:
            if isinstance(error, AdminError) and error.status >= 500:
                raise
            self._found.append((number, error))

    def check(self, *, single: bool) -> None:
        """Raises the mistake of a single operation, or Refused."""
        if self._found and single:
            raise self._found[0][1]
        if self._found:
            raise Refused(self._found)


class Refused(AdminError):
    """`mistakes`: number of the operation -> its refusal."""

    def __init__(self, found: list[tuple[int, Exception]]) -> None:
        refusals = [(number, refusal_of(error)) for number, error in found]
        statuses = {refusal.status for _, refusal in refusals}
        self.mistakes = [(number, mistake) for number, refusal in refusals for mistake in _mistakes(refusal)]
        errors = [{"index": number, **mistake} for number, mistake in self.mistakes]
        text = "; ".join(str(mistake["message"]) for _, mistake in self.mistakes)
        super().__init__(statuses.pop() if len(statuses) == 1 else 400, {"error_msg": text, "errors": errors})


def _mistakes(refusal: AdminError) -> list[dict[str, object]]:
    body = refusal.body
    listed = body.get("errors")
    if isinstance(listed, list) and listed:
        return [dict(mistake) for mistake in listed]
    text = str(body.get("error_msg", body.get("message", "")))
    more = {name: value for name, value in body.items() if name not in ("error_msg", "message")}
    return [{"path": "$", "message": text, **more}]


def collect(items: Iterable[T], make: Callable[[T], R]) -> list[R]:
    """What is made of each; raises Refused with the mistakes of all."""
    mistakes = Mistakes()
    made: list[R] = []
    for number, item in enumerate(items):
        with mistakes.of(number):
            made.append(make(item))
    mistakes.check(single=False)
    return made
