"""A wire in a module's code that a watchdog can cut from another thread: then the call that runs traps at its next look.

The law: each place where code could go on for ever reads a byte of a memory that the module does not know of. Reading it costs
one instruction, a third of what the engine's own check of a counter costs a short loop. The host takes the page away, and the
next read is a fault that the engine makes a trap. Nothing else of the module changes; no index, no name, no other section.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from shared.proxy_wasm.instructions import number, places
from shared.proxy_wasm.sections import HEADER_SIZE, joined, leb, sections, with_export

MEMORY_SECTION, EXPORT_SECTION, CODE_SECTION = 5, 7, 10
# Those that stand before a memory section (custom ones, 0, may stand anywhere).
_BEFORE_MEMORY = (0, 1, 2, 3, 4)
# One page, and no more ever.
_ONE_PAGE = b"\1\1\1"
_MEMORY_KIND = b"\2"
NAME = "tripwire"


def wired(module: bytes, memories: int, name: str) -> bytes:
    """The module with a wire, which it exports as `name`.

    The engine has validated the bytes; `memories` is how many it has, imported ones included. Raises UnknownInstruction.
    """
    look = b"\x41\0\x2d\x40" + leb(memories) + b"\0\x1a"  # i32.const 0, i32.load8_u of that memory, drop
    parts = [module[:HEADER_SIZE]]
    has_memory = False
    for kind, body in sections(module):
        if not has_memory and kind not in _BEFORE_MEMORY:
            has_memory = True
            if kind != MEMORY_SECTION:
                parts.append(joined(MEMORY_SECTION, b"\1" + _ONE_PAGE))
        if kind == MEMORY_SECTION:
            count, at = number(body, 0)
            body = leb(count + 1) + body[at:] + _ONE_PAGE
        elif kind == EXPORT_SECTION:
            body = with_export(body, name, _MEMORY_KIND + leb(memories))
        elif kind == CODE_SECTION:
            body = b"".join(_code(body, look))
        parts.append(joined(kind, body))
    return b"".join(parts)


def _code(body: bytes, look: bytes) -> Iterator[bytes]:
    count, at = number(body, 0)
    yield body[:at]
    for _ in range(count):
        size, at = number(body, at)
        function = _function(body, at, at + size, look)
        yield leb(len(function))
        yield function
        at += size


def _function(data: bytes, start: int, end: int, look: bytes) -> bytes:
    first = _behind_locals(data, start)
    loops, calls = places(data, first, end)
    marks = [first, *loops] if calls else loops
    if not marks:
        return data[start:end]
    bounds = [start, *marks, end]
    return look.join([data[a:b] for a, b in pairwise(bounds)])


def _behind_locals(data: bytes, at: int) -> int:
    """Past the declarations of locals: so many of a type, each."""
    groups, at = number(data, at)
    for _ in range(groups):
        _, at = number(data, at)
        _, at = number(data, at)
    return at
