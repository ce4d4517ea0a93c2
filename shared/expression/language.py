"""The expression language of `vars` and `_meta.filter` (lua-resty-expr): a JSON array, compiled once to closures.

The law: what compiles cannot fail at run time, and is evaluated from left to right only as far as the answer needs. What does
not compile says where, as a path into the array.

    []                                   true
    [E, E, ...]                          all of them, where each E is an array
    ["OR" | "AND", E, E, ...]            any, all; two at least. "!OR" and "!AND" are the opposite
    [variable, operator, constant]       a comparison; operators stand in operators.py, variables in variables.py
    [variable, "!", operator, constant]  its opposite, which is true when the request has no such variable
    [variable, constant]                 the same as `==`
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.expression.operators import OPERATORS, Test, Value
from shared.expression.request import RequestVariables
from shared.expression.variables import find_reader

# More are no rule that a person wrote, and each costs every request its time.
MOST_COMPARISONS = 1000

Location = tuple[int, ...]
Predicate = Callable[[RequestVariables], bool]


class ExpressionError(ValueError):
    """`location` are the indexes that lead to the culprit, from the outside."""

    def __init__(self, location: Location, text: str) -> None:
        super().__init__(text)
        self.location = location


@dataclass(frozen=True, slots=True)
class Expression:
    """`matches` tells whether it is true of a request; `names` are the variables that it reads. Equal if the source is."""

    source: str
    matches: Predicate = field(compare=False)
    names: frozenset[str] = field(compare=False)

    @property
    def needs_body(self) -> bool:
        """Whether the request's body must be there in full before it is evaluated."""
        return any(name.startswith("post_arg") for name in self.names)


def compile_expression(document: object, *, routed: bool = True) -> Expression:
    """Raises ExpressionError. Without `routed` it is about requests that have no route yet, as `vars` is."""
    compiler = _Compiler(routed)
    if not isinstance(document, list | tuple):
        raise ExpressionError((), f"expected an array, got {type(document).__name__}")
    if document and isinstance(document[0], str) and document[0].upper() not in _LOGIC:
        raise ExpressionError((), "rule should be wrapped inside brackets")
    predicate = compiler.compile(document, ()) if document else _always
    return Expression(json.dumps(document), predicate, frozenset(compiler.names))


class _Compiler:
    def __init__(self, routed: bool) -> None:
        self._routed = routed
        self._comparisons = 0
        self.names: set[str] = set()

    def compile(self, rule: object, location: Location) -> Predicate:
        if not isinstance(rule, list | tuple):
            raise ExpressionError(location, "expected an array: a comparison, or a group of expressions")
        if not rule:
            raise ExpressionError(location, "rule too short")
        if isinstance(rule[0], list | tuple):
            return _all_of([self.compile(part, (*location, index)) for index, part in enumerate(rule)])
        if not isinstance(rule[0], str):
            raise ExpressionError((*location, 0), "expected the name of a variable")
        combine = _LOGIC.get(rule[0].upper())
        if combine is None:
            return self._comparison(rule, location)
        if len(rule) <= 2:
            raise ExpressionError(location, f"rule too short: {rule[0]} needs two expressions at least")
        return combine([self.compile(part, (*location, index)) for index, part in enumerate(rule[1:], start=1)])

    def _comparison(self, rule: list[object] | tuple[object, ...], location: Location) -> Predicate:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise ExpressionError((), f"too many comparisons, expected at most {MOST_COMPARISONS}")
        name, operator, wanted, negated = _parts(rule, location)
        make = OPERATORS.get(operator)
        if make is None:
            raise ExpressionError(location, f"invalid operator '{operator[:32]}', expected one of {' '.join(OPERATORS)}")
        try:
            read = find_reader(name, self._routed)
        except ValueError as error:
            raise ExpressionError((*location, 0), str(error)) from error
        try:
            test = make(wanted)
        except ValueError as error:
            raise ExpressionError((*location, len(rule) - 1), str(error)) from error
        self.names.add(name)
        return _comparison(read, test, negated)


def _parts(rule: list[object] | tuple[object, ...], location: Location) -> tuple[str, str, object, bool]:
    """(variable, operator in lower case, constant, whether negated)."""
    match rule:
        case [str(name), str(operator), wanted]:
            return name, operator.lower(), wanted, False
        case [str(name), "!", str(operator), wanted]:
            return name, operator.lower(), wanted, True
        case [_, _, _, _]:
            raise ExpressionError(location, "bad 'not' expression, expected [variable, \"!\", operator, constant]")
        case [str(), str(operator)] if operator.lower() in OPERATORS:
            raise ExpressionError(location, f"rule too short: {operator} needs a constant")
        case [str(name), wanted]:
            return name, "==", wanted, False
        case _:
            raise ExpressionError(location, "invalid expression, expected [variable, operator, constant]")


def _comparison(read: Callable[[RequestVariables], Value], test: Test, negated: bool) -> Predicate:
    if negated:
        return lambda request: not test(read(request))
    return lambda request: test(read(request))


def _always(request: RequestVariables) -> bool:
    return True


def _all_of(parts: list[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]

    def matches(request: RequestVariables) -> bool:
        for part in parts:  # noqa: SIM110 - without a generator's cost
            if not part(request):
                return False
        return True

    return matches


def _any_of(parts: list[Predicate]) -> Predicate:
    def matches(request: RequestVariables) -> bool:
        for part in parts:  # noqa: SIM110 - without a generator's cost
            if part(request):
                return True
        return False

    return matches


def _not(predicate: Predicate) -> Predicate:
    return lambda request: not predicate(request)


_LOGIC: dict[str, Callable[[list[Predicate]], Predicate]] = {
    "AND": _all_of,
    "OR": _any_of,
    "!AND": lambda parts: _not(_all_of(parts)),
    "!OR": lambda parts: _not(_any_of(parts)),
}
