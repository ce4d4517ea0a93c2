"""The operators of the expression language: one table from an operator's name to the test that it makes of a constant.

The law: a constant with which a test could never have but one answer (a word after `>`, an object after `==`) is refused when
the configuration is written. At run time nothing fails: a value that a test cannot read is unequal to everything.

A value is bytes, or, out of a JSON body, a number, a boolean or a tuple of values; None is a variable that a request has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from shared.expression.addresses import AddressSet
from shared.regex import compile_regex

Value = bytes | int | float | bool | tuple["Value", ...] | None
Test = Callable[[Value], bool]

# Decimal only: APISIX also reads `0x1` as 1, a way of writing one that a rule's author did not think of.
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Digits beyond these change nothing in a double.
_LONGEST_NUMBER = 400


def as_number(value: Value) -> float | None:
    """What a comparison of numbers sees in a value."""
    if isinstance(value, bytes):
        text = value.strip(b" \t")
        return float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def constant(value: object) -> Value:
    """A scalar of the configuration as a value; raises ValueError."""
    if isinstance(value, str):
        return value.encode()
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"expected a string, number, boolean or null, got {_shown(value)}")


def _equal(wanted: object) -> Test:
    expected = constant(wanted)
    if isinstance(expected, bool) or expected is None:
        return lambda value: value is expected
    if isinstance(expected, bytes):
        return lambda value: value == expected
    number = as_number(expected)
    return lambda value: as_number(value) == number


def _unequal(wanted: object) -> Test:
    equal = _equal(wanted)
    return lambda value: not equal(value)


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[object], Test]:
    def with_constant(wanted: object) -> Test:
        number = as_number(constant(wanted))
        if number is None:
            raise ValueError(f"expected a number, got {_shown(wanted)}")

        def test(value: Value) -> bool:
            found = as_number(value)
            return found is not None and compare(found, number)

        return test

    return with_constant


def _matches(ignore_case: bool) -> Callable[[object], Test]:
    def with_constant(wanted: object) -> Test:
        if not isinstance(wanted, str):
            raise ValueError(f"expected a regular expression, got {_shown(wanted)}")
        search = compile_regex(wanted, ignore_case=ignore_case).search

        def test(value: Value) -> bool:
            text = _text(value)
            return text is not None and search(text) is not None

        return test

    return with_constant


def _in(wanted: object) -> Test:
    if not isinstance(wanted, list | tuple):
        raise ValueError(f"expected an array, got {_shown(wanted)}")
    # As (type, value): to Python True is 1.
    members = frozenset(_typed(constant(item)) for item in wanted)
    return lambda value: not isinstance(value, tuple) and _typed(value) in members


def _has(wanted: object) -> Test:
    member = _typed(constant(wanted))
    return lambda value: isinstance(value, tuple) and any(_typed(item) == member for item in value)


def _in_networks(wanted: object) -> Test:
    texts: Sequence[object] = wanted if isinstance(wanted, list | tuple) else [wanted]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected an address or an array of addresses, got {_shown(wanted)}")
    networks = AddressSet(str(text) for text in texts)
    return lambda value: isinstance(value, bytes) and value.decode("latin-1") in networks


OPERATORS: dict[str, Callable[[object], Test]] = {
    "==": _equal,
    "~=": _unequal,
    ">": _ordered(lambda one, other: one > other),
    ">=": _ordered(lambda one, other: one >= other),
    "<": _ordered(lambda one, other: one < other),
    "<=": _ordered(lambda one, other: one <= other),
    "~~": _matches(ignore_case=False),
    "~*": _matches(ignore_case=True),
    "in": _in,
    "has": _has,
    "ipmatch": _in_networks,
}


def _typed(value: Value) -> tuple[str, Value]:
    if isinstance(value, bool) or value is None:
        return "constant", value
    return ("number", value) if isinstance(value, int | float) else ("other", value)


def _text(value: Value) -> bytes | None:
    """What an expression is searched in: a number is as JSON spells it."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value).encode() if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:80] + "..."
