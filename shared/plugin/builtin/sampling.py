"""Which requests a fault or a mock is for."""

from __future__ import annotations

import random
from typing import Any

from shared.expression.language import ExpressionError
from shared.plugin.alternatives import compile_alternatives
from shared.plugin.fields import refused
from shared.plugin.request import Request


def check_vars(rules: list[Any]) -> list[Any]:
    """A field's validator; raises PydanticCustomError."""
    try:
        compile_alternatives(rules)
    except ExpressionError as error:
        raise refused(f"failed to create vars expression: {error}") from None
    return rules


class Sample:
    """So many per cent (None: all) of the requests that `vars` is true of (None: all)."""

    def __init__(self, percentage: int | None, rules: list[Any] | None) -> None:
        self._percentage = percentage
        self._matches = None if rules is None else compile_alternatives(rules)

    def takes(self, request: Request) -> bool:
        if self._percentage is not None and random.random() * 100 >= self._percentage:
            return False
        return self._matches is None or self._matches(request.variables)
