"""referer-restriction: who may come, by the host in Referer.

The law: a Referer of which no host can be read counts as missing. `*.a.example` is every name below a.example.
"""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from shared.plugin.fields import Message, one_of
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.schema.common import Maybe, SomeUnique, Spec

Host = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^(\*|\*?[0-9a-zA-Z._\[\]:-]+)$")]


class RefererRestrictionConfig(Spec):
    bypass_missing: bool = False
    whitelist: Maybe[SomeUnique[Host]] = None
    blacklist: Maybe[SomeUnique[Host]] = None
    message: Message = "Your referer host is not allowed"

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        one_of(self, "whitelist", "blacklist")
        return self


class RefererRestriction(Plugin[RefererRestrictionConfig]):
    name = "referer-restriction"
    priority = 2990
    Config = RefererRestrictionConfig

    def __init__(self, config: RefererRestrictionConfig, metadata: object = None) -> None:
        super().__init__(config)
        hosts = [host.lower() for host in config.whitelist or config.blacklist or ()]
        self._names = frozenset(hosts)
        self._suffixes = tuple(host[1:] for host in hosts if host.startswith("*"))
        self._wanted = config.whitelist is not None
        self._refusal = Reply(403, {"message": config.message})

    def access(self, request: Request) -> Reply | None:
        host = _host(request.header("referer"))
        if host is None:
            return None if self.config.bypass_missing else self._refusal
        listed = host in self._names or host.endswith(self._suffixes)
        return None if listed is self._wanted else self._refusal


def _host(referer: str | None) -> str | None:
    if referer is None:
        return None
    try:
        return urlsplit(referer).hostname
    except ValueError:
        return None
