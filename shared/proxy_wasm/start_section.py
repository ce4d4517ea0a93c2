"""Turns a module's start section into an export, so that the host decides when it runs.

The law: the engine runs a start section while it instantiates the module, when the host functions that it may call (a log, an
abort with its message) are not linked yet. Moved behind an export of its own, it runs first of all once everything stands.
"""

from __future__ import annotations

from collections.abc import Container

from shared.proxy_wasm.sections import HEADER_SIZE, free_name, joined, sections, with_export

EXPORT_SECTION, START_SECTION = 7, 8
_FUNCTION_KIND = b"\0"
NAME = "start section"


def expose_start(module: bytes, taken: Container[str]) -> tuple[bytes, str]:
    """The module and the name of the new export; as it was and an empty name when it has no start section.

    The bytes were read by binary.parse before, and `taken` are its exports' names.
    """
    found = list(sections(module))
    start = next((body for kind, body in found if kind == START_SECTION), b"")
    if not start or all(kind != EXPORT_SECTION for kind, _ in found):
        return module, ""
    name = free_name(NAME, taken)
    parts = [module[:HEADER_SIZE]]
    for kind, body in found:
        if kind == EXPORT_SECTION:
            parts.append(joined(kind, with_export(body, name, _FUNCTION_KIND + start)))
        elif kind != START_SECTION:
            parts.append(joined(kind, body))
    return b"".join(parts), name
