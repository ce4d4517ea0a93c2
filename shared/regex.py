"""Regular expressions of the configuration, matched against what clients send.

The law: matching takes time in proportion to the text, whatever the expression: RE2 never goes back. What it therefore cannot
do (look-around, back-references, possessive repetition) is refused with its own words. Text is bytes: `.` is one byte, and a
letter beyond ASCII is its UTF-8 encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import re2

# Bytes that one compiled expression and its states may take; thousands of routes may have one each.
_MEMORY = 1024 * 1024


class Match(Protocol):
    def group(self, number: int, /) -> bytes | None: ...

    def groups(self) -> tuple[bytes | None, ...]: ...

    def span(self, number: int = 0, /) -> tuple[int, int]: ...

    def expand(self, template: bytes, /) -> bytes: ...


class Regex(Protocol):
    """A compiled expression. `search` looks anywhere in the text, `fullmatch` at all of it."""

    @property
    def groups(self) -> int: ...

    def search(self, text: bytes, /) -> Match | None: ...

    def fullmatch(self, text: bytes, /) -> Match | None: ...

    def sub(self, replacement: bytes | Callable[[Match], bytes], text: bytes, count: int = 0, /) -> bytes: ...


def compile_regex(pattern: str, *, ignore_case: bool = False) -> Regex:
    """Raises ValueError with the reason."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.max_mem = _MEMORY
    try:
        return cast(Regex, re2.compile(pattern.encode(), options))
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"invalid regular expression: {text}") from error
