"""What several resources share: the strict base of every model and the types that APISIX names in more than one place.

The law: a document is taken as it is written or refused; nothing is coerced, no unknown property passes, none may
be null, and a property of APISIX that nothing honours yet is refused as `not supported yet` instead of being ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.schema.document import encode
from shared.schema.request_filter import RequestFilter

T = TypeVar("T")

ID_PATTERN = r"^[a-zA-Z0-9_.-]+$"
# nginx and most event loops count timers in 32-bit milliseconds.
MAX_SECONDS = 2_147_483.0
# Priorities and weights stay within what every JSON reader holds exactly.
MAX_INT = 2**31 - 1


class Spec(BaseModel):
    """Base of all models: immutable, strict, and closed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _not_null(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "wrong type: null, leave the property out instead")
    return value


def _not_yet(value: object) -> object:
    raise PydanticCustomError("not_yet", "not supported yet")


def later(*values: object) -> BeforeValidator:
    """Values of APISIX that are refused until something honours them."""

    def refuse(value: object) -> object:
        if type(value) in {type(known) for known in values} and value in values:
            raise PydanticCustomError("not_yet", "{given} is not supported yet", {"given": json.dumps(value)})
        return value

    return BeforeValidator(refuse)


def _integer_id(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 1:
        raise PydanticCustomError("id", "expected {given} to be at least 1", {"given": value})
    return str(value)


def _unique(items: tuple[T, ...]) -> tuple[T, ...]:
    seen: dict[T, int] = {}
    for number, item in enumerate(items, start=1):
        if item in seen:
            words = f"expected unique items but items {seen[item]} and {number} are equal"
            raise PydanticCustomError("not_unique", "{words}", {"words": words})
        seen[item] = number
    return items


def _string_or_object(value: object) -> str | None:
    return "#string" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


# A property that may be absent but not null.
Maybe = Annotated[T | None, BeforeValidator(_not_null)]
# A property of APISIX that is not honoured yet.
NotYet = Annotated[None, BeforeValidator(_not_yet), WithJsonSchema({"not": {}, "description": "not supported yet"})]
# Accepted where it asks for nothing.
OnlyFalse = Annotated[Literal[False], later(True)]
# JSON has arrays only; strict mode would insist on a Python tuple.
Array = Annotated[tuple[T, ...], Field(strict=False)]
UniqueArray = Annotated[tuple[T, ...], Field(strict=False), AfterValidator(_unique)]
SomeUnique = Annotated[tuple[T, ...], Field(strict=False, min_length=1), AfterValidator(_unique)]

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=ID_PATTERN)]
ReferenceId = Annotated[
    Id,
    BeforeValidator(_integer_id),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 64, "pattern": ID_PATTERN}, {"type": "integer", "minimum": 1}]}),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Description = Annotated[str, Field(max_length=256)]
LabelValue = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^\S+$")]
Labels = dict[str, LabelValue]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]

Text = Annotated[str, Field(min_length=1)]
JsonObject = Annotated[dict[str, Any], Field(min_length=1)]
# A plugin's configuration: text reaches the plugin verbatim, an object as JSON.
TextOrObject = Annotated[
    Annotated[Text, Tag("#string")] | Annotated[JsonObject, Tag("#object")],
    Discriminator(_string_or_object, custom_error_type="string_or_object", custom_error_message="string or object"),
]


def configuration_bytes(conf: str | Mapping[str, object]) -> bytes:
    """What a plugin reads: text verbatim, an object as compact JSON with its keys in the order of the document."""
    return conf.encode() if isinstance(conf, str) else encode(conf)


class TimeoutSpec(Spec):
    """Seconds; APISIX wants all three or none."""

    connect: Seconds
    send: Seconds
    read: Seconds


def _compiles(rules: list[Any]) -> list[Any]:
    try:
        RequestFilter(rules)
    except ValueError as error:
        raise PydanticCustomError("filter", "{words}", {"words": str(error)}) from None
    return rules


# An expression about a request that has its route (shared/expression).
Rules = Annotated[list[Any], AfterValidator(_compiles)]


class MetaSpec(Spec):
    """`_meta` of a plugin's configuration: what the gateway itself does with the plugin."""

    disable: bool = False
    priority: Maybe[Integer] = None
    filter: Maybe[Rules] = None
    error_response: Maybe[TextOrObject] = None
    pre_function: NotYet = None

    @property
    def passes(self) -> RequestFilter | None:
        """Which requests the plugin sees, None for all."""
        return None if self.filter is None else RequestFilter(self.filter)


class PluginConf(Spec):
    """One plugin named by a route, service, plugin_config or global_rule."""

    conf: TextOrObject
    meta: MetaSpec = Field(default=MetaSpec(), alias="_meta")


class Described(Spec):
    """The properties that only people read."""

    name: Maybe[Name] = None
    desc: Maybe[Description] = None
    labels: Maybe[Labels] = None


Status = Literal[0, 1]
