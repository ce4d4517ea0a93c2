"""consumer-restriction: which consumers, groups, services or routes a request may be of.

The law: a request of nobody is refused (401) before anything else is asked; who is on the blacklist is refused, then who is
not on the whitelist; methods count for those who are named with them, and not for those on the whitelist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.plugin.fields import Message, Status, at_least_one_of
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Array, Maybe, Spec, Text

Kind = Literal["consumer_name", "consumer_group_id", "service_id", "route_id"]
Method = Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"]
Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]


class UserMethods(Spec):
    user: Text
    methods: Annotated[tuple[Method, ...], Field(strict=False, min_length=1)]


class ConsumerRestrictionConfig(Spec):
    type: Kind = "consumer_name"
    blacklist: Maybe[Names] = None
    whitelist: Maybe[Names] = None
    allowed_by_methods: Maybe[Array[UserMethods]] = None
    rejected_code: Status = 403
    rejected_msg: Maybe[Message] = None

    @model_validator(mode="after")
    def _restricts(self) -> Self:
        at_least_one_of(self, "blacklist", "whitelist", "allowed_by_methods")
        return self


def _consumer_name(request: Request) -> str | None:
    consumer = request.consumer
    return None if consumer is None else consumer.username


def _consumer_group_id(request: Request) -> str | None:
    consumer = request.consumer
    return None if consumer is None else consumer.group_id


_VALUES: dict[Kind, Callable[[Request], str | None]] = {
    "consumer_name": _consumer_name,
    "consumer_group_id": _consumer_group_id,
    "service_id": lambda request: None if request.route is None else request.route.service_id,
    "route_id": lambda request: None if request.route is None else request.route.id,
}


class ConsumerRestriction(Plugin[ConsumerRestrictionConfig]):
    name = "consumer-restriction"
    priority = 2400
    Config = ConsumerRestrictionConfig

    def __init__(self, config: ConsumerRestrictionConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._value = _VALUES[config.type]
        self._blacklist = frozenset(config.blacklist or ())
        self._whitelist = frozenset(config.whitelist or ())
        # The first entry of a user counts.
        self._methods = {each.user: frozenset(each.methods) for each in reversed(config.allowed_by_methods or ())}
        message = config.rejected_msg or f"The {config.type} is forbidden."
        self._rejection = Reply(config.rejected_code, {"message": message})
        text = f"The request is rejected, please check the {config.type} for this request"
        self._nobody = Reply(401, {"message": text})

    def access(self, request: Request) -> Reply | None:
        value = self._value(request)
        if value is None:
            return self._nobody
        if value in self._blacklist:
            return self._rejection
        if self._whitelist:
            # Whose methods are bounded is let in by them alone only where there is no whitelist.
            return None if value in self._whitelist else self._rejection
        methods = self._methods.get(value)
        return self._rejection if methods is not None and request.method not in methods else None
