"""What routes ask of clients and requests, beside hosts, paths and methods.

The law: what passes here compiles in every worker; the path of a mistake in an expression leads to the very comparison.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.expression.addresses import parse_network
from shared.expression.language import ExpressionError, compile_expression
from shared.schema.errors import INSIDE


def _addresses(value: str) -> str:
    try:
        parse_network(value)
    except ValueError as error:
        raise PydanticCustomError("addresses", "{text}", {"text": str(error)}) from error
    return value


def _vars(value: object) -> object:
    """The array itself, as it was written."""
    try:
        compile_expression(value, routed=False)
    except ExpressionError as error:
        text = f"failed to validate the 'vars' expression: {error}"
        raise PydanticCustomError("vars", "{text}", {"text": text, INSIDE: error.location}) from error
    return value


def _no_lua(value: object) -> object:
    raise PydanticCustomError("lua", "not supported: it is a function in Lua, and no Lua runs here; say it with vars")


# No address with its prefix length is longer.
Addresses = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_addresses)]
Vars = Annotated[
    Any,
    BeforeValidator(_vars),
    WithJsonSchema({"type": "array", "description": "an expression: [[variable, operator, constant], ...]"}),
]
NoLua = Annotated[None, BeforeValidator(_no_lua), WithJsonSchema({"not": {}, "description": "not supported: no Lua runs here"})]
