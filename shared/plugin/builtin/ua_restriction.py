"""ua-restriction: who may come, by User-Agent.

The law: of several User-Agent fields each has to pass. It keeps out who says who he is; it is no protection.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from shared.plugin.fields import Message, Regex, one_of
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.regex import compile_regex
from shared.schema.common import Maybe, SomeUnique, Spec


class UaRestrictionConfig(Spec):
    bypass_missing: bool = False
    allowlist: Maybe[SomeUnique[Regex]] = None
    denylist: Maybe[SomeUnique[Regex]] = None
    message: Message = "Not allowed"

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        one_of(self, "allowlist", "denylist")
        return self


class UaRestriction(Plugin[UaRestrictionConfig]):
    name = "ua-restriction"
    priority = 2999
    Config = UaRestrictionConfig

    def __init__(self, config: UaRestrictionConfig, metadata: object = None) -> None:
        super().__init__(config)
        self._searches = [compile_regex(pattern).search for pattern in config.allowlist or config.denylist or ()]
        self._wanted = config.allowlist is not None
        self._refusal = Reply(403, {"message": config.message})

    def access(self, request: Request) -> Reply | None:
        agents = request.header_values("user-agent")
        if not agents:
            return None if self.config.bypass_missing else self._refusal
        return None if all(self._listed(agent) is self._wanted for agent in agents) else self._refusal

    def _listed(self, agent: str) -> bool:
        data = agent.encode("utf-8", "surrogateescape")
        return any(search(data) is not None for search in self._searches)
