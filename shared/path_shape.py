"""What a path has to be behind the stem of its pattern (path_pattern.py), and which bytes of it are the pattern's own.

The law: patterns of one shape differ by their key, so any number of them is one look-up.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.regex import compile_regex


@dataclass(frozen=True, slots=True)
class Shape:
    """Where literals and parameters stand behind a stem. `tail`: how many bytes stand before `*`, None without one."""

    literals: tuple[int, ...]
    params: tuple[int, ...]
    tail: int | None

    def key_of(self, rest: bytes) -> bytes | None:
        """The literal bytes of a path behind the stem, or None when the path has not this shape."""
        segments = len(self.literals) + len(self.params)
        if self.tail is None:
            parts = rest.split(b"/")
            if len(parts) != segments:
                return None
        else:
            if not segments:
                return rest[: self.tail]
            parts = rest.split(b"/", segments)
            if len(parts) != segments + 1:
                return None
        for index in self.params:
            if not parts[index]:
                return None
        key = b"/".join([parts[index] for index in self.literals])
        return key if self.tail is None else key + b"/" + parts[segments][: self.tail]


class StarShape:
    """With a `*` before other text, which stands for any bytes, slashes too. `end`: how many literal bytes come last, which are
    the key; `between`: a regular expression of what stands before those, empty when that is anything.

    Patterns of one star, `/a/*/c`, are of one shape when their ends are as long; of more stars each is likely to be its own.
    """

    __slots__ = ("_regex", "between", "end")

    def __init__(self, end: int, between: str) -> None:
        self.end = end
        self.between = between
        self._regex = compile_regex(between) if between else None

    def __repr__(self) -> str:
        return f"StarShape(end={self.end}, between={self.between!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StarShape) and (self.end, self.between) == (other.end, other.between)

    def __hash__(self) -> int:
        return hash((self.end, self.between))

    def key_of(self, rest: bytes) -> bytes | None:
        size = len(rest) - self.end
        if size < 0 or (self._regex is not None and self._regex.fullmatch(rest[:size]) is None):
            return None
        return rest[size:]


AnyShape = Shape | StarShape
