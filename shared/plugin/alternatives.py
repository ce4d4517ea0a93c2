"""Expressions of plugins: a list of rules that all hold, or, as APISIX has it in some plugins, a list of such lists.

The law: of several lists one that holds is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shared.expression.language import ExpressionError, compile_expression
from shared.expression.request import RequestVariables

Matches = Callable[[RequestVariables], bool]


def compile_alternatives(rules: Sequence[Any]) -> Matches:
    """Raises ExpressionError, also for an expression about the request's body, which comes later."""
    several = bool(rules) and all(isinstance(rule, list) and rule and isinstance(rule[0], list) for rule in rules)
    expressions = [compile_expression(each) for each in (rules if several else [rules])]
    if any(expression.needs_body for expression in expressions):
        raise ExpressionError((), "an expression about the request's body cannot decide here: the body comes later")
    parts = [expression.matches for expression in expressions]
    return parts[0] if len(parts) == 1 else lambda variables: any(matches(variables) for matches in parts)
