"""ip-restriction: who may come, by address.

The law: the address is that of the connection's peer, or the one that real-ip or a trusted proxy told before.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from shared.expression.addresses import AddressSet
from shared.plugin.fields import Addresses, Message, one_of
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Maybe, Spec


class IpRestrictionConfig(Spec):
    whitelist: Maybe[Addresses] = None
    blacklist: Maybe[Addresses] = None
    message: Message = "Your IP address is not allowed"
    response_code: Literal[403, 404] = 403

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        one_of(self, "whitelist", "blacklist")
        return self


class IpRestriction(Plugin[IpRestrictionConfig]):
    name = "ip-restriction"
    priority = 3000
    Config = IpRestrictionConfig

    def __init__(self, config: IpRestrictionConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._addresses = AddressSet(config.whitelist or config.blacklist or ())
        self._wanted = config.whitelist is not None
        self._refusal = Reply(config.response_code, {"message": config.message})

    def access(self, request: Request) -> Reply | None:
        return None if (request.client_ip in self._addresses) is self._wanted else self._refusal
