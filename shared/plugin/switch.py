"""A step's answer that no plugin gives: from here on other plugins take part in the request.

The law: the phase at whose end the step stands is over; what is left are the later phases, and the rewrite phase of plugins
that were not there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.plugin.program import Program


class Switch:
    """`program` has the request steps that are left and all later ones; None when there are Wasm plugins. `bindings` are all
    that take part now, the data plane's own, and `fresh` names those of them whose rewrite phase is left. `arrangement` is
    what a chain has made of them.
    """

    __slots__ = ("arrangement", "bindings", "fresh", "program")

    def __init__(self, program: Program | None, bindings: tuple[Any, ...], fresh: frozenset[str]) -> None:
        self.program = program
        self.bindings = bindings
        self.fresh = fresh
        self.arrangement: Any = None
