"""uri-blocker: requests whose target no upstream shall see.

The law: expressions are searched in path and query together; the path is in normal form, so that no spelling of it slips by.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.plugin.fields import Message, Regex, Status
from shared.plugin.plugin import Plugin
from shared.plugin.reply import Reply
from shared.plugin.request import Request
from shared.regex import compile_regex
from shared.schema.common import Maybe, SomeUnique, Spec


class UriBlockerConfig(Spec):
    block_rules: Annotated[SomeUnique[Regex], Field(max_length=1000)]
    rejected_code: Status = 403
    rejected_msg: Maybe[Message] = None
    case_insensitive: bool = False


class UriBlocker(Plugin[UriBlockerConfig]):
    name = "uri-blocker"
    priority = 2900
    Config = UriBlockerConfig

    def __init__(self, config: UriBlockerConfig, metadata: object = None) -> None:
        super().__init__(config)
        # One automaton of all: a request is searched once however many rules there are.
        joined = "|".join(f"(?:{rule})" for rule in config.block_rules)
        self._search = compile_regex(joined, ignore_case=config.case_insensitive).search
        body = b"" if config.rejected_msg is None else {"error_msg": config.rejected_msg}
        self._refusal = Reply(config.rejected_code, body)

    def rewrite(self, request: Request) -> Reply | None:
        target = request.asked_target.encode("utf-8", "surrogateescape")
        return None if self._search(target) is None else self._refusal
