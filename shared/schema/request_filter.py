"""`_meta.filter`: which requests a plugin sees.

The law: it is decided once for a request, before the plugin's first phase, by the expression language of `vars`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shared.expression.language import ExpressionError, compile_expression

if TYPE_CHECKING:
    from shared.plugin.request import Request


class RequestFilter:
    """Two of the same source are equal, so that what hangs on a configuration stays when it is read again."""

    __slots__ = ("_matches", "_source")

    def __init__(self, source: object) -> None:
        """Raises ValueError."""
        try:
            expression = compile_expression(source)
        except ExpressionError as error:
            place = "".join(f"[{index}]" for index in error.location)
            raise ValueError(f"failed to validate the 'vars' expression: {error}{' at ' + place if place else ''}") from None
        if expression.needs_body:
            raise ValueError("an expression about the request's body cannot decide here: the body comes later")
        self._matches = expression.matches
        self._source = json.dumps(source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestFilter) and other._source == self._source

    def __hash__(self) -> int:
        return hash(self._source)

    def __call__(self, request: Request) -> bool:
        return self._matches(request.variables)
