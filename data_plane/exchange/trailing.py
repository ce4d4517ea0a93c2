"""A chain whose response has trailers: they have arrived, and the last piece of the body comes next.

The law: it stands before the chain from then on, so that responses without trailers do not ask for any. What takes the
response's place (a local reply) has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_plane.plugins.interface import PluginChain


class TrailingChain:
    """`heads` of responses are still to come that the trailers belong to: one if all of it arrived at once, else none."""

    def __init__(self, chain: PluginChain, lines: bytes, heads: int) -> None:
        self._chain = chain
        self._lines: bytes | None = lines
        self._heads = heads

    def response_head(self, head: bytes, framing: bytes, eos: bool) -> None:
        self._heads -= 1
        if self._heads < 0:
            self._lines = None
        self._chain.response_head(head, framing, eos)

    def response_body(self, data: bytes, eos: bool) -> None:
        lines = self._lines
        if not eos or lines is None:
            self._chain.response_body(data, eos)
            return
        if data:
            self._chain.response_body(data, False)
        self._chain.response_trailers(lines)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the chain has
        return getattr(self._chain, name)
